// SPDX-License-Identifier: Apache-2.0
// The picture of a zone as SVG, and the same as a nested list for those who do not see it.

import { element } from "./elements.js";
import { CARD, LANE, LETTERS, clip, layout } from "./zone_layout.js";
import { SIGNS } from "./zone_model.js";

const SVG = "http://www.w3.org/2000/svg";
const LINE = 17; // of text, in pixels of the drawing
const READABLE = 960; // a wider picture becomes as small as that, and then scrolls

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(name, value);
  node.append(...children.filter(Boolean));
  return node;
}

const said = (item) => `${item.kind} ${item.name}: ${item.state}`;
const titleOf = (item) => [said(item), ...item.lines, ...(item.nics ?? []).map(({ text }) => text)].join("\n");

// A link when the item has a list of its own, else a group that the keyboard reaches, too.
function linked(item, className, ...children) {
  const common = { class: `${className} ${item.level}`, "data-item": item.id, "aria-label": titleOf(item) };
  const title = svg("title", {}, titleOf(item));
  return item.href ? svg("a", { ...common, href: item.href }, title, ...children)
    : svg("g", { ...common, tabindex: "0", role: "img" }, title, ...children);
}

function texts(lines, x, y, letters, className) {
  return lines.map((line, place) => svg("text", { x, y: y + place * LINE, class: place ? className : `${className} first` }, clip(line, letters)));
}

function bar(fill, x, y, width) {
  if (fill === null) return null;
  const full = Math.max(0, Math.min(1, fill));
  return svg("g", { class: "fill" }, svg("rect", { x, y, width, height: 5, rx: 2.5, class: "whole" }),
    svg("rect", { x, y, width: Math.round(width * full), height: 5, rx: 2.5, class: "part" }));
}

function cardOf({ item, x, y }) {
  const lines = [item.kind, ...item.lines].slice(0, 4);
  return linked(item, "card-shape",
    svg("rect", { x, y, width: CARD.width, height: CARD.height, rx: 10, class: "box" }),
    svg("text", { x: x + 12, y: y + 22, class: "name" }, clip(item.name, LETTERS.card - 4)),
    svg("text", { x: x + 12, y: y + 40, class: "state-line" }, clip(`${SIGNS[item.level]} ${item.state}`, LETTERS.card)),
    ...texts(lines.slice(0, 3), x + 12, y + 58, LETTERS.card, "about"),
    bar(item.fill, x + 12, y + CARD.height - 11, CARD.width - 24));
}

function laneOf({ item, x1, x2, y }) {
  return linked(item, "lane",
    svg("rect", { x: 8, y: y - LANE.height / 2 + 3, width: LANE.label - 8, height: LANE.height - 6, rx: 8, class: "box" }),
    svg("line", { x1: LANE.label, x2, y1: y, y2: y, class: "wire" }),
    svg("text", { x: 18, y: y - 16, class: "name" }, clip(`${SIGNS[item.level]} ${item.name}`, LETTERS.label)),
    ...texts(item.lines.slice(0, 2), 18, y + 2, LETTERS.label, "about"),
    bar(item.fill, 18, y + LANE.height / 2 - 11, LANE.label - 28));
}

function dropOf({ x, from, to }) {
  return svg("g", { class: "drop", "aria-hidden": "true" }, svg("line", { x1: x, x2: x, y1: from, y2: to }), svg("circle", { cx: x, cy: to, r: 4 }));
}

// The picture of a zone's model.
export function drawing(model) {
  const { width, height, lanes, cards, drops } = layout(model);
  const whole = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `Picture of zone ${model.name}` },
    ...lanes.map(laneOf), ...drops.map(dropOf), ...cards.map(cardOf));
  whole.style.minWidth = `${Math.min(width, READABLE)}px`;
  return whole;
}

// ---- the same as text ---------------------------------------------------------------------------------------

function entry(item, networks) {
  const names = new Map(networks.map(({ id, name }) => [id, name]));
  const nics = item.nics ?? item.networks.map((id) => ({ text: names.get(id) }));
  const lines = [...item.lines, ...(nics.length ? [`on networks: ${nics.map(({ text }) => text).join(", ")}`] : [])];
  const title = element("span", { className: item.level }, `${SIGNS[item.level]} ${item.state}`);
  return element("li", { data: { entry: item.id } }, item.href ? element("a", { href: item.href }, item.name) : element("strong", {}, item.name), ": ", title,
    lines.length ? element("ul", {}, ...lines.map((line) => element("li", {}, line))) : null);
}

// The nested list of a zone's model: kinds, their items, and what is to be said of each.
export function outline({ networks, above, below }) {
  const kinds = new Map();
  for (const item of [...networks, ...above, ...below]) kinds.set(item.kind, [...(kinds.get(item.kind) ?? []), item]);
  return element("ul", { className: "outline" }, ...[...kinds].map(([kind, items]) =>
    element("li", {}, element("strong", {}, kind), element("ul", {}, ...items.map((item) => entry(item, networks))))));
}
