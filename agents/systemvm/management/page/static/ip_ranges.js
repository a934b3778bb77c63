// SPDX-License-Identifier: Apache-2.0
// Ranges of public, guest and storage addresses of a zone; those of management are pods' (pods.js).

import { call, job } from "./api.js";
import { element, offer, progress } from "./elements.js";
import { askFields, opening } from "./field_dialog.js";
import { rowsOfZone, zoneShown } from "./infrastructure_zone.js";
import { List } from "./list.js";
import { $, ask, onClick, titled, toast } from "./ui.js";
import { act, actions } from "./work.js";

const COLUMNS = [
  { label: "Addresses", sort: "startip", cell: (range) => (hasAddresses(range) ? spansOf(range) : ["none yet"]).map((span) => element("div", {}, span)) },
  { label: "Network", cell: networkOf },
  { label: "In use", className: "wide", sort: "addressesused", cell: usedOf },
  { label: "Actions", className: "actions", cell: buttonsOf },
];
const OF_VLANS = { add: "createVlanIpRange", change: "updateVlanIpRange", remove: "deleteVlanIpRange", run: call };
// By traffic: how its ranges are listed, and which commands change them.
const KINDS = {
  public: { ...OF_VLANS, load: rowsOfZone("listVlanIpRanges", "vlaniprange", { forvirtualnetwork: "true" }) },
  guest: { ...OF_VLANS, load: rowsOfZone("listVlanIpRanges", "vlaniprange", { forvirtualnetwork: "false", withoutaddresses: "true" }) },
  storage: {
    add: "createStorageNetworkIpRange", change: "updateStorageNetworkIpRange", remove: "deleteStorageNetworkIpRange", run: job,
    load: rowsOfZone("listStorageNetworkIpRange", "storagenetworkiprange"),
  },
};

let list;

const spanText = (first, last) => (first === last ? first : `${first}–${last}`);
const spansOf = ({ startip, endip, startipv6, endipv6 }) => [startip && spanText(startip, endip), startipv6 && spanText(startipv6, endipv6)].filter(Boolean);

function usedOf({ name, addressesused: used, addressestotal: total }) {
  return total ? [progress((100 * used) / total, `Addresses in use of ${name}`), element("small", {}, `${used} of ${total}`)] : [];
}

const hasAddresses = ({ startip, startipv6 }) => Boolean(startip ?? startipv6); // a guest network can be without

function networkOf({ gateway, netmask, ip6cidr, ip6gateway, vlan, podname, forsystemvms }) {
  const tag = String(vlan ?? "untagged").replace("vlan://", "");
  const networks = [gateway && `gateway ${gateway}, netmask ${netmask}`, ip6cidr && `${ip6cidr}${ip6gateway ? `, gateway ${ip6gateway}` : ""}`].filter(Boolean);
  const more = [tag === "untagged" ? tag : `VLAN ${tag}`, podname, forsystemvms === false && "not for system VMs"].filter(Boolean);
  return [...networks.map((network) => element("div", {}, network)), element("small", {}, more.join(" · "))];
}

function buttonsOf(range, busy) {
  const off = { disabled: Boolean(busy) };
  const { change, remove } = KINDS[range.kind];
  return [
    busy ? element("small", {}, busy) : null,
    offer(change, "range-edit", "Edit…", range, off),
    offer(remove, "range-delete", "Delete", range, { ...off, className: "danger" })];
}

const span4 = (range = {}) => [{ name: "startip", label: "First address", value: range.startip }, { name: "endip", label: "Last address", value: range.endip }];
const span6 = (range = {}) => [{ name: "startipv6", label: "First IPv6 address", value: range.startipv6 }, { name: "endipv6", label: "Last IPv6 address", value: range.endipv6 }];

Object.assign(actions, {
  "range-edit"(id, name) {
    const range = list.find(id);
    const { change, run } = KINDS[range.kind];
    askFields({
      title: titled`Edit ${name}`, verb: "Save", text: "An address that is in use stays in it.",
      fields: [(range.netmask ? span4(range) : span6(range)).map((field) => ({ ...field, required: true }))], // beside IPv4, addresses of IPv6 follow from these
      submit: (values) => run(change, { id, ...values }),
    });
  },
  async "range-delete"(id, name) {
    const { remove, run } = KINDS[list.find(id).kind];
    if (await ask(titled`Delete ${name}?`, "A range with an address in use is not deleted.", "Delete")) {
      await act(id, "Deleting…", () => run(remove, { id }));
    }
  },
});

async function openAdd() {
  const open = opening();
  const traffic = list.filter("kind");
  const { id: zoneid, name } = zoneShown();
  const { add, run } = KINDS[traffic];
  const pods = traffic === "storage" ? (await call("listPods", { zoneid })).pod ?? [] : [];
  if (traffic === "storage" && !pods.length) throw new Error(`${name} has no pod: create one first`);
  const place = { public: { zoneid }, guest: { zoneid, forvirtualnetwork: "false" }, storage: {} }[traffic];
  open({
    title: titled`Add ${traffic} addresses in ${name}`, verb: "Add",
    text: traffic === "guest" ? "Users' VMs get these addresses by DHCP; without a first address the network has no DHCP."
      : "Of IPv4, of IPv6, or of both: beside IPv4, an IPv6 address ends with the IPv4 one.",
    fields: [
      ...(pods.length ? [{ name: "podid", label: "Pod", choices: pods.map((pod) => [pod.id, pod.name]) }] : []),
      [{ name: "gateway", label: "Gateway", placeholder: "203.0.113.1" }, { name: "netmask", label: "Netmask", placeholder: "255.255.255.0" }],
      span4(),
      { name: "vlan", label: "VLAN", inputMode: "numeric", placeholder: "untagged (optional)" },
      [{ name: "ip6cidr", label: "IPv6 network", placeholder: "2001:db8::/64 (optional)" }, { name: "ip6gateway", label: "Its gateway", placeholder: "(optional)" }],
      span6().map((field) => ({ ...field, placeholder: "for IPv6 alone" })),
      ...(traffic === "public" ? [{ name: "spared", data: { parameter: "forsystemvms" }, type: "checkbox", label: "Not for system VMs" }] : [])],
    async submit({ spared, ...values }) {
      await run(add, { ...place, ...(spared ? { forsystemvms: "false" } : {}), ...values });
      toast("The addresses are added.");
    },
  });
}

// `refresh` redraws the page; returns the list.
export function wireIpRanges(refresh) {
  list = new List($("#ip-ranges"), {
    label: "IP ranges", columns: COLUMNS, refresh, empty: "There is no such range in this zone.", nothing: "No such range fits.",
    filters: [{ name: "kind", label: "Traffic", choices: [["public", "public"], ["guest", "guest"], ["storage", "storage"]] }],
    async load({ kind: traffic, ...parameters }) {
      const { rows, count } = await KINDS[traffic].load(parameters);
      return { rows: rows.map((range) => ({ ...range, kind: traffic, name: hasAddresses(range) ? spansOf(range).join(", ") : range.cidr })), count };
    },
  });
  onClick("#open-ip-range", openAdd);
  return list;
}
