// SPDX-License-Identifier: Apache-2.0
// Which zones there are, and the choice among them. With one zone nothing of this is shown.

import { call, commands } from "./api.js";
import { $, options } from "./ui.js";

const EVERY_ZONE = ["-1", "all zones"]; // CloudStack's id of them
let zones = [];

// A column of lists and a filter above them, which are shown when there are several zones.
export const ZONE_COLUMN = { label: "Zone", className: "of-zone", cell: ({ zonename }) => zonename ?? "" };
export const ZONE_FILTER = { name: "zoneid", label: "Zone", className: "of-zone", choices: [["", "all"]] };

const choice = ({ id, name }) => ({ id, label: name });

// Learn which zones there are, and show what depends on it.
export async function learnZones() {
  ({ zone: zones = [] } = commands().has("listZones") ? await call("listZones") : {});
  $("#zone").textContent = zones.length > 1 ? `${zones.length} zones` : zones[0]?.name ?? "";
  document.body.classList.toggle("several-zones", zones.length > 1);
  const all = { id: "", label: ZONE_FILTER.choices[0][1] };
  for (const filter of document.querySelectorAll(".tools select[name=zoneid]")) {
    const before = filter.value;
    fill(filter, [all, ...zones.map(choice)]);
    if (filter.value !== before) filter.dispatchEvent(new Event("change")); // its zone is gone
  }
}

// What is chosen stays so, if it is offered again.
function fill(select, items) {
  const before = select.value;
  const text = JSON.stringify(items);
  if (select.dataset.items === text) return;
  select.dataset.items = text;
  select.replaceChildren(...options(items));
  if (items.some(({ id }) => id === before)) select.value = before;
}

// The zones in which things are made.
export function zonesToChoose() {
  if (!commands().has("listZones")) throw new Error("your role does not permit listZones: ask an administrator");
  if (!zones.length) throw new Error("the cloud has no zone: an administrator creates one, under Infrastructure");
  return zones;
}

// The field `zoneid` of a dialog (field_dialog.js) for one of `among`; with `every`, or for all zones.
export function zoneField({ among = zonesToChoose(), every = false } = {}) {
  if (zones.length === 1) return { name: "zoneid", type: "hidden", value: among[0].id };
  return { name: "zoneid", label: "Zone", required: true, choices: [...among.map(({ id, name }) => [id, name]), ...(every ? [EVERY_ZONE] : [])] };
}

// The zone that such a field has at first.
export const firstOf = ({ value, choices }) => value ?? choices[0][0];

// Offer zones in a select, which is hidden when there is one zone only; returns the one that is chosen.
export function chosenZone(select, among = zonesToChoose()) {
  fill(select, among.map(choice));
  select.parentElement.hidden = among.length < 2;
  return among.find(({ id }) => id === select.value) ?? among[0];
}
