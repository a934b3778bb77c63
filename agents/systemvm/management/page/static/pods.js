// SPDX-License-Identifier: Apache-2.0
// Pods of a zone with their management networks, and the ranges of addresses in these.

import { call, job } from "./api.js";
import { nameOf } from "./details.js";
import { badge, element, offer } from "./elements.js";
import { askFields } from "./field_dialog.js";
import { rowsOfZone, zoneShown } from "./infrastructure_zone.js";
import { List } from "./list.js";
import { $, ask, onClick, titled, toast } from "./ui.js";
import { act, actions } from "./work.js";

const COLUMNS = [
  { label: "Name", sort: "name", cell: (pod) => nameOf("POD", pod) },
  { label: "Management network", cell: ({ gateway, netmask }) => [element("span", {}, gateway ? `gateway ${gateway}` : ""), element("small", {}, `netmask ${netmask}`)] },
  { label: "Ranges", cell: (pod) => [...spansOf(pod).map((span) => element("div", {}, span)),
    element("small", {}, pod.addressestotal ? `${pod.addressesused} of ${pod.addressestotal} in use` : "none")] },
  { label: "State", sort: "allocationstate", cell: (pod, busy) => badge(pod.allocationstate, busy) },
  { label: "Actions", className: "actions", cell: buttonsOf },
];
const SPAN = [{ name: "startip", label: "First address" }, { name: "endip", label: "Last address", placeholder: "the first one" }];

let list;

const rangeOf = (pod) => ({ name: "range", label: "Range", choices: spansOf(pod).map((span, place) => [String(place), span]) });
const spansOf = ({ startip = [], endip = [] }) => startip.map((first, place) => (first === endip[place] ? first : `${first}–${endip[place]}`));

function buttonsOf(pod, busy) {
  const off = { disabled: Boolean(busy) };
  const enabled = pod.allocationstate === "Enabled";
  return [
    offer("createManagementNetworkIpRange", "pod-range-add", "Add range…", pod, off),
    pod.startip?.length ? offer("updatePodManagementNetworkIpRange", "pod-range-change", "Change range…", pod, off) : null,
    pod.startip?.length ? offer("deleteManagementNetworkIpRange", "pod-range-delete", "Delete range…", pod, off) : null,
    offer("updatePod", "pod-rename", "Rename…", pod, off),
    offer("updatePod", enabled ? "pod-disable" : "pod-enable", enabled ? "Disable" : "Enable", pod, off),
    offer("deletePod", "pod-delete", "Delete", pod, { ...off, className: "danger" })];
}

Object.assign(actions, {
  "pod-range-add"(id, name) {
    const { gateway, netmask } = list.find(id);
    const [first, last] = SPAN;
    askFields({
      title: titled`Add a range to ${name}`, verb: "Add", text: `Management addresses for system VMs, of the pod's network: gateway ${gateway}, netmask ${netmask}.`,
      fields: [[{ ...first, required: true }, last],
        [{ name: "ip6cidr", label: "IPv6 network", placeholder: "2001:db8::/64 (optional)" }, { name: "ip6gateway", label: "Its gateway", placeholder: "(optional)" }]],
      submit: (values) => job("createManagementNetworkIpRange", { podid: id, gateway, netmask, ...values }),
    });
  },
  "pod-range-change"(id, name) {
    const pod = list.find(id);
    const as = { placeholder: "as it is" };
    askFields({
      title: titled`Change a range of ${name}`, verb: "Change", text: "Addresses in use must stay in the range.",
      fields: [rangeOf(pod), [{ name: "newstartip", label: "First address", ...as }, { name: "newendip", label: "Last address", ...as }]],
      submit: ({ range, ...ends }) => job("updatePodManagementNetworkIpRange",
        { podid: id, currentstartip: pod.startip[range], currentendip: pod.endip[range], ...ends }),
    });
  },
  "pod-range-delete"(id, name) {
    const pod = list.find(id);
    askFields({
      title: titled`Delete a range of ${name}`, verb: "Delete", danger: true, text: "A range with an address in use is not deleted.",
      fields: [rangeOf(pod)],
      submit: ({ range }) => job("deleteManagementNetworkIpRange", { podid: id, startip: pod.startip[range], endip: pod.endip[range] }),
    });
  },
  "pod-rename": (id, name) => askFields({
    title: titled`Rename ${name}`, verb: "Rename", fields: [{ name: "name", label: "New name", required: true, maxLength: 255, value: name }],
    submit: (values) => call("updatePod", { id, ...values }),
  }),
  "pod-disable": (id) => act(id, "Disabling…", () => call("updatePod", { id, allocationstate: "Disabled" })),
  "pod-enable": (id) => act(id, "Enabling…", () => call("updatePod", { id, allocationstate: "Enabled" })),
  async "pod-delete"(id, name) {
    if (await ask(titled`Delete ${name}?`, "Its ranges are deleted, too. A pod with clusters, pools or addresses in use is not deleted.", "Delete")) {
      await act(id, "Deleting…", () => call("deletePod", { id }));
    }
  },
});

function openCreate() {
  const { id: zoneid, name } = zoneShown();
  askFields({
    title: titled`Create a pod in ${name}`, verb: "Create", text: "A pod has a management network. The daemon gives system VMs the addresses of its range.",
    fields: [{ name: "name", label: "Name", required: true, maxLength: 255, placeholder: "pod1" },
      [{ name: "gateway", label: "Gateway", required: true, placeholder: "10.11.0.1" }, { name: "netmask", label: "Netmask", required: true, placeholder: "255.255.255.0" }],
      SPAN],
    async submit(values) {
      await call("createPod", { zoneid, ...values });
      toast(`${values.name} is created.`);
    },
  });
}

// `refresh` redraws the page; returns the list.
export function wirePods(refresh) {
  list = new List($("#pods"), { label: "pods", columns: COLUMNS, refresh, load: rowsOfZone("listPods", "pod"), empty: "There is no pod in this zone." });
  onClick("#open-pod", openCreate);
  return list;
}
