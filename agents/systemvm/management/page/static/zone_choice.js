// SPDX-License-Identifier: Apache-2.0
// The choice among several zones, above what is shown of one.

import { options } from "./ui.js";

// Offer the zones in a select, which is hidden when there is one zone only; returns the one that is chosen.
export function chosenZone(select, zones) {
  const ids = zones.map(({ id, name }) => `${id} ${name}`).join("\n");
  if (select.dataset.ids !== ids) {
    const before = select.value;
    select.replaceChildren(...options(zones.map(({ id, name }) => ({ id, label: name }))));
    if (zones.some(({ id }) => id === before)) select.value = before;
    select.dataset.ids = ids;
  }
  select.parentElement.hidden = zones.length < 2;
  return zones.find(({ id }) => id === select.value) ?? zones[0];
}
