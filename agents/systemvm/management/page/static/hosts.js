// SPDX-License-Identifier: Apache-2.0
// Hosts: those of this cloud, and those that administrators register for consoles of their VMs.

import { call, job } from "./api.js";
import { action, badge, element, problem } from "./elements.js";
import { $, ask, draw, form, toast } from "./ui.js";

let act = async () => {};

// Returns when the hosts are shown.
export async function refreshHosts(busy) {
  const { host = [] } = await call("listHosts", { type: "Routing" });
  draw($("#hosts"), host, hostRow, "There is no host.", busy);
}

function hostRow(host, busy) {
  const registered = Boolean(host.url);
  const off = { disabled: Boolean(busy) };
  const about = [host.hypervisor, host.version, host.ipaddress].filter(Boolean).join(" · ");
  const machines = host.virtualmachines === 1 ? "1 VM" : `${host.virtualmachines ?? 0} VMs`;
  const consoles = registered ? `${machines} · consoles at ${(host.consoleaddresses ?? []).join(", ") || "no address"}`
    : "runs this cloud's VMs";
  return element("article", { className: "row" },
    element("div", {}, element("div", { className: "top" }, element("strong", {}, host.name), badge(host.state, busy)), element("small", {}, about)),
    element("div", {}, problem(host) ?? element("small", {}, consoles)),
    element("div", { className: "actions" },
      registered ? action("host-refresh", "List VMs", host, off) : null,
      registered ? action("host-remove", "Remove", host, { ...off, className: "danger" }) : null));
}

export const hostActions = {
  "host-refresh": (id) => act(id, "Listing…", () => job("reconnectHost", { id })),
  async "host-remove"(id, name) {
    if (await ask(`Remove ${name}?`, "Open consoles of its VMs end, and they are not shown any more. Nothing on the host is changed.", "Remove")) {
      await act(id, "Removing…", () => call("deleteHost", { id }));
    }
  },
};

// `work(id, doing, function)` runs an action of a host and shows that it runs.
export function wireHosts(zoneOf, work) {
  act = work;
  $("#open-host").addEventListener("click", () => $("#host-add").showModal());
  form($("#host-add"), async (data) => {
    const given = Object.fromEntries([...data].filter(([, value]) => value));
    const { name } = (await call("addHost", { zoneid: zoneOf().id, ...given })).host[0];
    $("#host-add form").reset();
    toast(`${name} is registered.`);
  });
}
