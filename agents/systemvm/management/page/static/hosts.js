// SPDX-License-Identifier: Apache-2.0
// Hosts: those of this cloud, and those that administrators register for consoles of their VMs.

import { call, job } from "./api.js";
import { badge, element, offer, problem } from "./elements.js";
import { askFields } from "./field_dialog.js";
import { List, rowsOf } from "./list.js";
import { addSection } from "./sections.js";
import { $, ask, onClick, titled, toast } from "./ui.js";
import { act, actions } from "./work.js";

const COLUMNS = [
  { label: "Name", sort: "name", cell: (host) => [element("strong", {}, host.name),
    element("small", {}, [host.hypervisor, host.version, host.ipaddress].filter(Boolean).join(" · "))] },
  { label: "State", sort: "state", cell: (host, busy) => badge(host.state, busy) },
  { label: "Consoles", cell: (host) => problem(host) ?? element("small", {}, consolesOf(host)) },
  { label: "Actions", className: "actions", cell: buttonsOf },
];

function consolesOf(host) {
  if (!host.url) return "runs this cloud's VMs";
  const machines = host.virtualmachines === 1 ? "1 VM" : `${host.virtualmachines ?? 0} VMs`;
  return `${machines} · consoles at ${(host.consoleaddresses ?? []).join(", ") || "no address"}`;
}

function buttonsOf(host, busy) {
  if (!host.url) return [];
  const off = { disabled: Boolean(busy) };
  return [offer("reconnectHost", "host-refresh", "List VMs", host, off), offer("deleteHost", "host-remove", "Remove", host, { ...off, className: "danger" })];
}

Object.assign(actions, {
  "host-refresh": (id) => act(id, "Listing…", () => job("reconnectHost", { id })),
  async "host-remove"(id, name) {
    if (await ask(titled`Remove ${name}?`, "Open consoles of its VMs end, and they are not shown any more. Nothing on the host is changed.", "Remove")) {
      await act(id, "Removing…", () => call("deleteHost", { id }));
    }
  },
});

// `zoneOf` returns the zone that is shown; `refresh` redraws the page.
export function wireHosts(zoneOf, refresh) {
  const list = new List($("#hosts"), {
    label: "hosts", columns: COLUMNS, refresh, load: rowsOf("listHosts", "host", { type: "Routing" }), empty: "There is no host.",
  });
  addSection({ id: "hosts", title: "Hosts", command: "addHost", tables: ["hosts", "vm_instances"], refresh: () => list.refresh() });
  onClick("#open-host", () => openRegister(zoneOf().id));
}

function openRegister(zoneid) {
  askFields({
    title: "Register a host", verb: "Register",
    text: "A XenServer, XCP-ng or vCenter: its VMs are listed here, and open in the browser. The cloud does not control them.",
    fields: [
      [{ name: "hypervisor", label: "Hypervisor", choices: [["XenServer", "XenServer or XCP-ng"], ["VMware", "VMware vCenter"]] },
        { name: "name", label: "Name", maxLength: 255, placeholder: "by address (optional)" }],
      { name: "url", label: "URL", required: true, placeholder: "https://10.11.0.31" },
      [{ name: "username", label: "User", required: true, maxLength: 255 },
        { name: "password", label: "Password", type: "password", required: true, maxLength: 255 }],
      { name: "fingerprint", label: "Fingerprint of its certificate", placeholder: "shown when it is missing; compare it on the host" },
      { name: "cacertificate", label: "Or the CA that issued it, which a vCenter always needs", rows: 3, placeholder: "-----BEGIN CERTIFICATE-----" }],
    async submit(values) {
      const { name } = (await call("addHost", { zoneid, ...values })).host[0];
      toast(`${name} is registered.`);
    },
  });
}
