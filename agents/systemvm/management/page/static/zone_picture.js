// SPDX-License-Identifier: Apache-2.0
// The picture of a zone, for administrators: drawn again when something in it has changed.

import { call } from "./api.js";
import { addSection } from "./sections.js";
import { $ } from "./ui.js";
import { chosenZone } from "./zone_choice.js";
import { zoneFacts } from "./zone_facts.js";
import { drawing, outline } from "./zone_drawing.js";
import { zoneModel } from "./zone_model.js";

const TABLES = ["zones", "pods", "clusters", "hosts", "vm_instances", "nics", "image_stores", "storage_pools", "physical_networks", "traffic_types",
  "address_ranges", "ip_addresses", "guest_networks"];
const shown = { zone: "", text: "" };

// A part that was drawn again keeps the keyboard's place.
function replace(container, content) {
  const focused = container.contains(document.activeElement) ? document.activeElement.dataset.item : null;
  container.replaceChildren(content);
  if (focused) container.querySelector(`[data-item="${CSS.escape(focused)}"]`)?.focus();
}

function draw(model) {
  const text = JSON.stringify(model);
  if (text === shown.text) return;
  shown.text = text;
  replace($("#picture"), drawing(model));
  $("#picture-outline").replaceChildren(outline(model));
}

// Returns when the picture shows what the zones have now.
async function refreshPicture() {
  const { zone: zones = [] } = await call("listZones");
  if (!zones.length) return;
  const zone = chosenZone($("#picture-zone"), zones);
  shown.zone = zone.id;
  const facts = await zoneFacts(zone);
  if (shown.zone === zone.id) draw(zoneModel(facts)); // else another one was chosen meanwhile
}

// `refresh` draws the page again.
export function wirePicture(refresh) {
  addSection({ id: "zone", title: "Picture of the zone", command: "listHosts", tables: TABLES, refresh: refreshPicture });
  $("#picture-zone").addEventListener("change", refresh);
}
