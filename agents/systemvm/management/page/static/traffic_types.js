// SPDX-License-Identifier: Apache-2.0
// Traffic types: what the physical networks of a zone carry, and by which labels of the hosts.

import { call, job } from "./api.js";
import { element, offer } from "./elements.js";
import { askFields, opening } from "./field_dialog.js";
import { rowsOfZone, zoneShown } from "./infrastructure_zone.js";
import { List } from "./list.js";
import { $, ask, onClick, titled, toast } from "./ui.js";
import { act, actions } from "./work.js";

const COLUMNS = [
  { label: "Traffic", sort: "traffictype", cell: ({ traffictype }) => element("strong", {}, traffictype) },
  { label: "Physical network", sort: "physicalnetworkname", cell: ({ physicalnetworkname }) => physicalnetworkname },
  { label: "Label", sort: "kvmnetworklabel", cell: (type) => [element("span", {}, type.kvmnetworklabel), element("small", {}, others(type))] },
  { label: "Actions", className: "actions", cell: buttonsOf },
];
const KINDS = ["Management", "Public", "Guest", "Storage"];
// A label that is not sent stays as it is.
const EMPTIED = { kvmnetworklabel: "", xennetworklabel: "", vmwarenetworklabel: "" };

let list;

const others = ({ xennetworklabel: xen, vmwarenetworklabel: vmware }) => [xen && `XenServer: ${xen}`, vmware && `VMware: ${vmware}`].filter(Boolean).join(" · ");

function buttonsOf(type, busy) {
  const off = { disabled: Boolean(busy) };
  return [
    busy ? element("small", {}, busy) : null,
    offer("updateTrafficType", "traffic-edit", "Edit…", type, off),
    offer("deleteTrafficType", "traffic-delete", "Delete", type, { ...off, className: "danger" })];
}

const labelsOf = (type = {}) => [
  { name: "kvmnetworklabel", label: "Label on KVM hosts, of their host.yaml", placeholder: "the network's name", value: type.kvmnetworklabel },
  [{ name: "xennetworklabel", label: "On XenServer", placeholder: "(optional)", value: type.xennetworklabel },
    { name: "vmwarenetworklabel", label: "On VMware", placeholder: "(optional)", value: type.vmwarenetworklabel }]];

Object.assign(actions, {
  "traffic-edit"(id, name) {
    askFields({
      title: titled`Edit ${name} traffic`, verb: "Save", text: "System VMs that are created from now on use the new labels.",
      fields: labelsOf(list.find(id)), submit: (values) => job("updateTrafficType", { id, ...EMPTIED, ...values }),
    });
  },
  async "traffic-delete"(id, name) {
    if (await ask(titled`Delete ${name} traffic?`, "A traffic type with IP ranges is not deleted.", "Delete")) {
      await act(id, "Deleting…", () => job("deleteTrafficType", { id }));
    }
  },
});

async function openAdd() {
  const open = opening();
  const { id: zoneid, name } = zoneShown();
  const { physicalnetwork: networks = [] } = await call("listPhysicalNetworks", { zoneid });
  if (!networks.length) throw new Error(`${name} has no physical network: create one first`);
  open({
    title: titled`Add a traffic type in ${name}`, verb: "Add", text: "Each is carried by one physical network of a zone. Without Storage, stores are reached over Management.",
    fields: [
      [{ name: "traffictype", label: "Traffic", choices: KINDS.map((kind) => [kind, kind]) },
        { name: "physicalnetworkid", label: "Physical network", required: true, choices: networks.map((network) => [network.id, network.name]) }],
      ...labelsOf()],
    async submit(values) {
      await job("addTrafficType", values);
      toast(`${values.traffictype} traffic is added.`);
    },
  });
}

// `refresh` redraws the page; returns the list.
export function wireTrafficTypes(refresh) {
  const load = rowsOfZone("listTrafficTypes", "traffictype");
  list = new List($("#traffic-types"), {
    label: "traffic types", columns: COLUMNS, refresh, empty: "No physical network of this zone carries anything yet.",
    async load(parameters) {
      const { rows, count } = await load(parameters);
      return { rows: rows.map((type) => ({ ...type, name: type.traffictype })), count };
    },
  });
  onClick("#open-traffic-type", openAdd);
  return list;
}
