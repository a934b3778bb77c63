// SPDX-License-Identifier: Apache-2.0
// Zones: created, changed, enabled when they have what they need, disabled and deleted.

import { call } from "./api.js";
import { nameOf } from "./details.js";
import { badge, element, offer } from "./elements.js";
import { askFields } from "./field_dialog.js";
import { List, rowsOf } from "./list.js";
import { $, ask, onClick, titled, toast } from "./ui.js";
import { act, actions } from "./work.js";

const COLUMNS = [
  { label: "Name", sort: "name", cell: (zone) => [nameOf("ZONE", zone), element("small", {}, zone.description ?? "")] },
  { label: "Name servers", cell: (zone) => [element("span", {}, both(zone.dns1, zone.dns2, zone.ip6dns1, zone.ip6dns2)),
    element("small", {}, `of system VMs: ${both(zone.internaldns1, zone.internaldns2)}`)] },
  { label: "Domain", cell: (zone) => zone.domain ?? "" },
  { label: "State", sort: "allocationstate", cell: (zone, busy) => badge(zone.allocationstate, busy) },
  { label: "Actions", className: "actions", cell: buttonsOf },
];

// An optional value that is not sent stays as it is.
const EMPTIED = { description: "", domain: "", dns2: "", ip6dns1: "", ip6dns2: "", internaldns2: "" };

let list;

const both = (...addresses) => addresses.filter(Boolean).join(", ");

function buttonsOf(zone, busy) {
  const off = { disabled: Boolean(busy) };
  const enabled = zone.allocationstate === "Enabled";
  return [
    offer("updateZone", "zone-edit", "Edit…", zone, off),
    offer("updateZone", enabled ? "zone-disable" : "zone-enable", enabled ? "Disable…" : "Enable", zone, off),
    offer("deleteZone", "zone-delete", "Delete", zone, { ...off, className: "danger" })];
}

function fieldsOf(zone = {}) {
  return [
    { name: "name", label: "Name", required: true, maxLength: 255, value: zone.name },
    { name: "description", label: "Description", maxLength: 255, placeholder: "(optional)", value: zone.description },
    [{ name: "dns1", label: "Name server of VMs", required: true, placeholder: "203.0.113.10", value: zone.dns1 },
      { name: "dns2", label: "Second one", placeholder: "(optional)", value: zone.dns2 }],
    [{ name: "ip6dns1", label: "By IPv6", placeholder: "(optional)", value: zone.ip6dns1 },
      { name: "ip6dns2", label: "Second one by IPv6", placeholder: "(optional)", value: zone.ip6dns2 }],
    [{ name: "internaldns1", label: "Name server of system VMs", required: true, placeholder: "10.11.0.2", value: zone.internaldns1 },
      { name: "internaldns2", label: "Second one of system VMs", placeholder: "(optional)", value: zone.internaldns2 }],
    { name: "domain", label: "Domain of names of the public CA's certificates", placeholder: "cloud.example.org (optional)", value: zone.domain },
  ];
}

Object.assign(actions, {
  "zone-edit"(id, name) {
    askFields({
      title: titled`Edit ${name}`, verb: "Save", fields: fieldsOf(list.find(id)),
      submit: (values) => call("updateZone", { id, ...EMPTIED, ...values }),
    });
  },
  "zone-enable": (id) => act(id, "Enabling…", () => call("updateZone", { id, allocationstate: "Enabled" })),
  async "zone-disable"(id, name) {
    if (await ask(titled`Disable ${name}?`, "Nothing is started in it until it is enabled again. What runs goes on.", "Disable")) {
      await act(id, "Disabling…", () => call("updateZone", { id, allocationstate: "Disabled" }));
    }
  },
  async "zone-delete"(id, name) {
    if (await ask(titled`Delete ${name}?`, "A zone with pods, physical networks, stores, hosts or VMs is not deleted.", "Delete")) {
      await act(id, "Deleting…", () => call("deleteZone", { id }));
    }
  },
});

function openCreate() {
  const [name, ...more] = fieldsOf();
  askFields({
    title: "Create a zone", verb: "Create",
    text: "It is Disabled at first. Give it a physical network with traffic types, a pod, a cluster with a host, IP ranges and an image store; then enable it.",
    fields: [[name, { name: "arch", label: "Architecture", choices: [["x86_64", "x86_64"], ["aarch64", "aarch64"]] }], ...more],
    async submit(values) {
      await call("createZone", values);
      toast(`${values.name} is created.`);
    },
  });
}

// `refresh` redraws the page; returns the list.
export function wireZones(refresh) {
  list = new List($("#zones"), { label: "zones", columns: COLUMNS, refresh, load: rowsOf("listZones", "zone"), empty: "There is no zone yet." });
  onClick("#open-zone", openCreate);
  return list;
}
