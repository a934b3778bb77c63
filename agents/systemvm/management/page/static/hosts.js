// SPDX-License-Identifier: Apache-2.0
// Hosts: those of this cloud, and those that administrators register for consoles of their VMs.

import { call, commands, job } from "./api.js";
import { nameOf } from "./details.js";
import { badge, element, offer, problem } from "./elements.js";
import { askFields, opening } from "./field_dialog.js";
import { List, rowsOf } from "./list.js";
import { addSection } from "./sections.js";
import { $, ask, onClick, titled, toast } from "./ui.js";
import { act, actions } from "./work.js";
import { ZONE_FILTER, firstOf, zoneField } from "./zone_choice.js";

const COLUMNS = [
  { label: "Name", sort: "name", cell: (host) => [nameOf("HOST", host),
    element("small", {}, [host.hypervisor, host.version, host.ipaddress].filter(Boolean).join(" · "))] },
  { label: "Cluster", cell: ({ clustername, podname, zonename }) => [element("span", {}, clustername ?? "none"),
    element("small", {}, [podname, zonename].filter(Boolean).join(" · "))] },
  { label: "State", sort: "state", cell: (host, busy) => badge(host.state, busy) },
  { label: "Consoles", cell: (host) => problem(host) ?? element("small", {}, consolesOf(host)) },
  { label: "Actions", className: "actions", cell: buttonsOf },
];

let list;

function consolesOf(host) {
  if (!host.url) return "runs this cloud's VMs";
  const machines = host.virtualmachines === 1 ? "1 VM" : `${host.virtualmachines ?? 0} VMs`;
  return `${machines} · consoles at ${(host.consoleaddresses ?? []).join(", ") || "no address"}`;
}

function buttonsOf(host, busy) {
  const off = { disabled: Boolean(busy) };
  const danger = { ...off, className: "danger" };
  if (!host.url) return [host.clusterid ? offer("deleteHost", "host-leave", "Take out of cluster", host, danger) : offer("addHost", "host-join", "Put into a cluster…", host, off)];
  return [
    offer("reconnectHost", "host-refresh", "List VMs", host, off), offer("updateHost", "host-edit", "Edit…", host, off),
    offer("deleteHost", "host-remove", "Remove", host, danger)];
}

Object.assign(actions, {
  "host-refresh": (id) => act(id, "Listing…", () => job("reconnectHost", { id })),
  async "host-remove"(id, name) {
    if (await ask(titled`Remove ${name}?`, "Open consoles of its VMs end, and they are not shown any more. Nothing on the host is changed.", "Remove")) {
      await act(id, "Removing…", () => call("deleteHost", { id }));
    }
  },
  async "host-join"(id, name) {
    const open = opening();
    const { cluster: clusters = [] } = await call("listClusters", { hypervisor: "KVM" });
    if (!clusters.length) throw new Error("there is no cluster of KVM: add one under Infrastructure");
    open({
      title: titled`Put ${name} into a cluster`, verb: "Put", text: "The zone's VMs run on it from then on. Its own directory becomes a storage pool.",
      fields: [{ name: "clusterid", label: "Cluster", required: true, choices: clusters.map((each) => [each.id, `${each.name} of ${each.podname}, ${each.zonename}`]) }],
      submit: ({ clusterid }) => call("addHost", { clusterid, zoneid: clusters.find((each) => each.id === clusterid).zoneid, hypervisor: "KVM", url: name }),
    });
  },
  async "host-leave"(id, name) {
    if (await ask(titled`Take ${name} out of its cluster?`, "A host with VMs is not taken out. Its files stay where they are.", "Take out")) {
      await act(id, "Removing…", () => call("deleteHost", { id }));
    }
  },
  "host-edit"(id, name) {
    const { url, username, fingerprint } = list.find(id);
    askFields({
      title: titled`Edit ${name}`, verb: "Save", text: "Another address needs user and password, too. What is empty stays as it is.",
      fields: [{ name: "name", label: "Name", required: true, maxLength: 255, value: name }, { name: "url", label: "URL", required: true, value: url }, ...accountOf(false, username, fingerprint)],
      submit: (values) => call("updateHost", { id, ...changed(values, { name, url, username, fingerprint }) }),
    });
  },
});

// Without what is as before: a trust that is sent again is checked again.
const changed = (values, before) => Object.fromEntries(Object.entries(values).filter(([name, value]) => value !== before[name]));

// Fields of who logs in at a host's own API, and what its certificate is verified with.
function accountOf(required, username, fingerprint) {
  return [
    [{ name: "username", label: "User", required, maxLength: 255, value: username },
      { name: "password", label: "Password", type: "password", required, maxLength: 255, autocomplete: "new-password" }],
    { name: "fingerprint", label: "Fingerprint of its certificate", placeholder: "shown when it is missing; compare it on the host", value: fingerprint },
    { name: "cacertificate", label: "Or the CA that issued it, which a vCenter always needs", rows: 3, placeholder: "-----BEGIN CERTIFICATE-----" }];
}

// `refresh` redraws the page.
export function wireHosts(refresh) {
  list = new List($("#hosts"), {
    label: "hosts", columns: COLUMNS, refresh, load: rowsOf("listHosts", "host", { type: "Routing" }), filters: [ZONE_FILTER], empty: "There is no host.",
  });
  addSection({ id: "hosts", title: "Hosts", command: "addHost", tables: ["hosts", "clusters", "vm_instances"], refresh: () => list.refresh() });
  onClick("#open-host", openRegister);
}

async function openRegister() {
  const open = opening();
  const zone = zoneField();
  const { cluster: clusters = [] } = commands().has("listClusters") ? await call("listClusters") : {};
  const others = clusters.filter(({ hypervisortype }) => hypervisortype !== "KVM");
  const clustersOf = (zoneid) => [["", "none"], ...others.filter((each) => each.zoneid === zoneid).map((each) => [each.id, `${each.name} of ${each.podname}, ${each.hypervisortype}`])];
  open({
    title: "Register a host", verb: "Register",
    text: "A XenServer, XCP-ng or vCenter: its VMs are listed here, and open in the browser. The cloud does not control them.",
    ofZone: (zoneid) => (others.length ? { clusterid: clustersOf(zoneid) } : {}),
    fields: [
      zone,
      [{ name: "hypervisor", label: "Hypervisor", choices: [["XenServer", "XenServer or XCP-ng"], ["VMware", "VMware vCenter"]] },
        { name: "name", label: "Name", maxLength: 255, placeholder: "by address (optional)" }],
      { name: "url", label: "URL", required: true, placeholder: "https://10.11.0.31" },
      ...accountOf(true),
      ...(others.length ? [{ name: "clusterid", label: "Cluster", choices: clustersOf(firstOf(zone)) }] : [])],
    async submit(values) {
      const { name } = (await call("addHost", values)).host[0];
      toast(`${name} is registered.`);
    },
  });
}
