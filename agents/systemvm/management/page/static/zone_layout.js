// SPDX-License-Identifier: Apache-2.0
// Where the parts of the picture are, in pixels of the drawing; without a document, so that it is tested by itself.

export const CARD = { width: 208, height: 112, gap: 16 };
export const LANE = { label: 236, height: 76 };
const MARGIN = 10;
const DROP = 26; // between cards and the first network
//: What fits in a line of a card and of a network's label, in characters of the drawing's font.
export const LETTERS = { card: 27, label: 30 };

export function clip(text, letters) {
  return text.length > letters ? `${text.slice(0, letters - 1)}…` : text;
}

function row(items, top) {
  return items.map((item, place) => ({ item, x: LANE.label + MARGIN * 2 + place * (CARD.width + CARD.gap), y: top }));
}

// The lines from a card to its networks, apart from each other, and a dot where each ends.
function drops(card, lanes, isAbove) {
  const joined = lanes.filter(({ item }) => card.item.networks.includes(item.id));
  const step = CARD.width / (joined.length + 1);
  const from = isAbove ? card.y + CARD.height : card.y;
  return joined.map((lane, place) => ({ x: Math.round(card.x + step * (place + 1)), from, to: lane.y, network: lane.item.id, card: card.item.id }));
}

// {width, height, lanes, cards, drops} of a zone's model.
export function layout({ networks, above, below }) {
  const columns = Math.max(above.length, below.length, 1);
  const width = LANE.label + MARGIN * 3 + columns * (CARD.width + CARD.gap) - CARD.gap;
  const upper = row(above, MARGIN);
  const first = MARGIN + CARD.height + DROP + LANE.height / 2;
  const lanes = networks.map((item, place) => ({ item, x1: LANE.label + MARGIN, x2: width - MARGIN, y: first + place * LANE.height }));
  const bottom = first + networks.length * LANE.height - LANE.height / 2 + DROP;
  const lower = row(below, bottom);
  return {
    width,
    height: bottom + CARD.height + MARGIN,
    lanes,
    cards: [...upper, ...lower],
    drops: [...upper.flatMap((card) => drops(card, lanes, true)), ...lower.flatMap((card) => drops(card, lanes, false))],
  };
}
