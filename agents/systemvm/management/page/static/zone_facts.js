// SPDX-License-Identifier: Apache-2.0
// What the picture of a zone is drawn from: the API's lists, of one zone.

import { call } from "./api.js";

//: More hosts, stores and pools than these are counted, not shown.
const MOST = "500";
const MACHINE_STATES = ["Running", "Stopped", "Error"];

async function rows(command, key, parameters = {}) {
  const answer = await call(command, { page: "1", pagesize: MOST, ...parameters });
  return answer[key] ?? [];
}

// Only how many there are: the daemon counts them in SQL.
async function count(command, parameters) {
  return (await call(command, { page: "1", pagesize: "1", ...parameters })).count ?? 0;
}

async function machines(zoneid) {
  const of = { zoneid, listall: "true" };
  const counted = MACHINE_STATES.map(async (state) => [state, await count("listVirtualMachines", { ...of, state })]);
  const [total, ...states] = await Promise.all([count("listVirtualMachines", of), ...counted]);
  return { total, states: Object.fromEntries(states) };
}

// Everything of a zone that its picture shows.
export async function zoneFacts(zone) {
  const of = { zoneid: zone.id };
  const [types, pods, ranges, storageRanges, networks, hosts, systemVms, stores, pools, vms] = await Promise.all([
    rows("listTrafficTypes", "traffictype", of),
    rows("listPods", "pod", of),
    rows("listVlanIpRanges", "vlaniprange", of),
    rows("listStorageNetworkIpRange", "storagenetworkiprange", of),
    rows("listNetworks", "network", { ...of, listall: "true" }),
    rows("listHosts", "host", { ...of, type: "Routing" }),
    rows("listSystemVms", "systemvm", of),
    rows("listImageStores", "imagestore", of),
    rows("listStoragePools", "storagepool", of),
    machines(zone.id),
  ]);
  return { zone, types, pods, ranges, storageRanges, networks, hosts, systemVms, stores, pools, vms };
}
