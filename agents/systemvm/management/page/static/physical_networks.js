// SPDX-License-Identifier: Apache-2.0
// Physical networks of a zone, and the VLANs of networks of accounts.

import { job } from "./api.js";
import { badge, element, offer } from "./elements.js";
import { askFields } from "./field_dialog.js";
import { rowsOfZone, zoneShown } from "./infrastructure_zone.js";
import { List } from "./list.js";
import { $, ask, onClick, titled, toast } from "./ui.js";
import { act, actions } from "./work.js";

const COLUMNS = [
  { label: "Name", sort: "name", cell: ({ name }) => element("strong", {}, name) },
  { label: "VLANs of networks of accounts", cell: ({ vlan }) => vlan || "none" },
  { label: "State", sort: "state", cell: (network, busy) => badge(network.state, busy) },
  { label: "Actions", className: "actions", cell: buttonsOf },
];
const VLANS = { name: "vlan", label: "VLANs of networks of accounts", placeholder: "100-200,300 (optional)" };

let list;

function buttonsOf(network, busy) {
  const off = { disabled: Boolean(busy) };
  const enabled = network.state === "Enabled";
  return [
    offer("updatePhysicalNetwork", "physical-network-edit", "Edit…", network, off),
    offer("updatePhysicalNetwork", enabled ? "physical-network-disable" : "physical-network-enable", enabled ? "Disable" : "Enable", network, off),
    offer("deletePhysicalNetwork", "physical-network-delete", "Delete", network, { ...off, className: "danger" })];
}

Object.assign(actions, {
  "physical-network-edit"(id, name) {
    askFields({
      title: titled`Edit ${name}`, verb: "Save", text: "Isolated and L2 networks of accounts get these VLANs, which must be of the label in host.yaml.",
      fields: [{ ...VLANS, value: list.find(id).vlan }],
      submit: (values) => job("updatePhysicalNetwork", { id, vlan: "", ...values }),
    });
  },
  "physical-network-disable": (id) => act(id, "Disabling…", () => job("updatePhysicalNetwork", { id, state: "Disabled" })),
  "physical-network-enable": (id) => act(id, "Enabling…", () => job("updatePhysicalNetwork", { id, state: "Enabled" })),
  async "physical-network-delete"(id, name) {
    if (await ask(titled`Delete ${name}?`, "A physical network with traffic types is not deleted.", "Delete")) {
      await act(id, "Deleting…", () => job("deletePhysicalNetwork", { id }));
    }
  },
});

function openCreate() {
  const { id: zoneid, name } = zoneShown();
  askFields({
    title: titled`Create a physical network in ${name}`, verb: "Create", text: "Its traffic types say what it carries, and by which label of the hosts.",
    fields: [{ name: "name", label: "Name", required: true, maxLength: 255, placeholder: "physical1" }, VLANS],
    async submit(values) {
      await job("createPhysicalNetwork", { zoneid, ...values });
      toast(`${values.name} is created.`);
    },
  });
}

// `refresh` redraws the page; returns the list.
export function wirePhysicalNetworks(refresh) {
  list = new List($("#physical-networks"), {
    label: "physical networks", columns: COLUMNS, refresh, load: rowsOfZone("listPhysicalNetworks", "physicalnetwork"),
    empty: "There is no physical network in this zone.",
  });
  onClick("#open-physical-network", openCreate);
  return list;
}
