// SPDX-License-Identifier: Apache-2.0
// The zone whose parts the section Infrastructure shows.

import { call } from "./api.js";
import { rowsOf } from "./list.js";
import { $ } from "./ui.js";
import { chosenZone } from "./zone_choice.js";

let shown = null;

// Learn which zones there are and which one is chosen.
export async function learnShownZone() {
  const { zone: zones = [] } = await call("listZones");
  shown = chosenZone($("#infrastructure-zone"), zones) ?? null;
}

// The zone in which parts are made.
export function zoneShown() {
  if (!shown) throw new Error("there is no zone yet: create one first, under Zones");
  return shown;
}

// As `rowsOf`, of this zone only.
export function rowsOfZone(command, object, given = {}) {
  const load = rowsOf(command, object, given);
  return async (parameters) => (shown ? load({ ...parameters, zoneid: shown.id }) : { rows: [], count: 0 });
}
