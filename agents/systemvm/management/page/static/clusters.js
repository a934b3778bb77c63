// SPDX-License-Identifier: Apache-2.0
// Clusters of a zone: in a pod, each for hosts of one hypervisor.

import { call } from "./api.js";
import { nameOf } from "./details.js";
import { badge, element, offer } from "./elements.js";
import { askFields, opening } from "./field_dialog.js";
import { rowsOfZone, zoneShown } from "./infrastructure_zone.js";
import { List } from "./list.js";
import { $, ask, onClick, titled, toast } from "./ui.js";
import { act, actions } from "./work.js";

const COLUMNS = [
  { label: "Name", sort: "name", cell: (cluster) => nameOf("CLUSTER", cluster) },
  { label: "Pod", sort: "podname", cell: ({ podname }) => podname },
  { label: "Hypervisor", sort: "hypervisortype", cell: ({ hypervisortype, arch }) => [element("span", {}, hypervisortype), element("small", {}, arch ?? "")] },
  { label: "State", sort: "allocationstate", cell: (cluster, busy) => badge(cluster.allocationstate, busy) },
  { label: "Actions", className: "actions", cell: buttonsOf },
];
const HYPERVISORS = [["KVM", "KVM"], ["XenServer", "XenServer or XCP-ng"], ["VMware", "VMware vCenter"]];

function buttonsOf(cluster, busy) {
  const off = { disabled: Boolean(busy) };
  const enabled = cluster.allocationstate === "Enabled";
  return [
    offer("updateCluster", "cluster-rename", "Rename…", cluster, off),
    offer("updateCluster", enabled ? "cluster-disable" : "cluster-enable", enabled ? "Disable" : "Enable", cluster, off),
    offer("deleteCluster", "cluster-delete", "Delete", cluster, { ...off, className: "danger" })];
}

Object.assign(actions, {
  "cluster-rename": (id, name) => askFields({
    title: titled`Rename ${name}`, verb: "Rename", fields: [{ name: "clustername", label: "New name", required: true, maxLength: 255, value: name }],
    submit: (values) => call("updateCluster", { id, ...values }),
  }),
  "cluster-disable": (id) => act(id, "Disabling…", () => call("updateCluster", { id, allocationstate: "Disabled" })),
  "cluster-enable": (id) => act(id, "Enabling…", () => call("updateCluster", { id, allocationstate: "Enabled" })),
  async "cluster-delete"(id, name) {
    if (await ask(titled`Delete ${name}?`, "A cluster with hosts or pools is not deleted.", "Delete")) {
      await act(id, "Deleting…", () => call("deleteCluster", { id }));
    }
  },
});

async function openAdd() {
  const open = opening();
  const { id: zoneid, name } = zoneShown();
  const { pod: pods = [] } = await call("listPods", { zoneid });
  if (!pods.length) throw new Error(`${name} has no pod: create one first`);
  open({
    title: titled`Add a cluster in ${name}`, verb: "Add", text: "Its hosts are put into it in the section Hosts.",
    fields: [{ name: "clustername", label: "Name", required: true, maxLength: 255, placeholder: "cluster1" },
      { name: "podid", label: "Pod", required: true, choices: pods.map((pod) => [pod.id, pod.name]) },
      [{ name: "hypervisor", label: "Hypervisor", choices: HYPERVISORS },
        { name: "arch", label: "Architecture", choices: [["", "the zone's"], ["x86_64", "x86_64"], ["aarch64", "aarch64"]] }]],
    async submit(values) {
      await call("addCluster", { zoneid, ...values });
      toast(`${values.clustername} is added.`);
    },
  });
}

// `refresh` redraws the page; returns the list.
export function wireClusters(refresh) {
  onClick("#open-cluster", openAdd);
  return new List($("#clusters"), { label: "clusters", columns: COLUMNS, refresh, load: rowsOfZone("listClusters", "cluster"), empty: "There is no cluster in this zone." });
}
