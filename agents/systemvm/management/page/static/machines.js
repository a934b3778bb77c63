// SPDX-License-Identifier: Apache-2.0
// Virtual machines of users, and system VMs: listed, deployed, started and stopped, and their consoles.

import { call, followJob, job } from "./api.js";
import { badge } from "./elements.js";
import { KEYBOARDS } from "./keyboards.js";
import { List, rowsOf } from "./list.js";
import { addSection } from "./sections.js";
import { showSteps } from "./steps.js";
import { $, ask, form, options, showInTurn, toast } from "./ui.js";
import { systemVmCard, vmCells } from "./views.js";
import { act, actions } from "./work.js";

const STATES = ["Running", "Stopped", "Starting", "Stopping", "Destroyed", "Error"].map((state) => [state, state]);
const COLUMNS = [
  { label: "Name", sort: "name", className: "wide", cell: vmCells.name },
  { label: "State", sort: "state", cell: (vm, busy) => badge(vm.state, busy) },
  { label: "Size", cell: vmCells.size },
  { label: "Created", sort: "created", cell: ({ created }) => (created ? new Date(created).toLocaleDateString() : "") },
  { label: "Actions", className: "actions", cell: vmCells.buttons },
];

Object.assign(actions, {
  "system-start": (id) => act(id, "Starting…", () => job("startSystemVm", { id })),
  "system-stop": (id) => act(id, "Stopping…", () => job("stopSystemVm", { id })),
  "system-reboot": (id) => act(id, "Rebooting…", () => job("rebootSystemVm", { id })),
  "vm-start": (id) => act(id, "Starting…", () => job("startVirtualMachine", { id })),
  "vm-reboot": (id) => act(id, "Rebooting…", () => job("rebootVirtualMachine", { id })),
  "vm-stop": (id) => act(id, "Stopping…", () => job("stopVirtualMachine", { id })),
  async "vm-destroy"(id, name) {
    if (await ask(`Destroy ${name}?`, "The virtual machine is turned off. An administrator can recover it until its disk is deleted.", "Destroy")) {
      await act(id, "Destroying…", () => job("destroyVirtualMachine", { id }));
    }
  },
  "vm-recover": (id) => act(id, "Recovering…", () => call("recoverVirtualMachine", { id })),
  async "vm-expunge"(id, name) {
    if (await ask(`Expunge ${name}?`, "This deletes its disk permanently.", "Expunge")) {
      await act(id, "Expunging…", () => job("expungeVirtualMachine", { id }));
    }
  },
  "machine-trace": (id, name) => showSteps(name, { virtualmachineid: id }),
  console: (id) => openConsole(id),
  "serial-console": (id) => openConsole(id, "serial"),
});

async function openConsole(id, kind) {
  // opened within the click, else a pop-up blocker stops it; without an opener it cannot reach this page
  const tab = window.open("about:blank", "_blank");
  if (tab) tab.opener = null;
  try {
    const { consoleendpoint } = await call("createConsoleEndpoint", { virtualmachineid: id, ...(kind ? { kind } : {}) });
    if (!consoleendpoint.success) throw new Error(consoleendpoint.details);
    if (tab) tab.location.replace(consoleendpoint.url);
    else location.assign(consoleendpoint.url);
  } catch (error) {
    tab?.close();
    toast(error.message, true);
  }
}

// A job's result has the password of its machine once. The dialog is not that of questions: it can open at any time.
function showPassword({ virtualmachine }) {
  const { name, displayname, password } = virtualmachine ?? {};
  if (!password) return;
  const { elements } = $("#machine-password form");
  showInTurn($("#machine-password"), () => {
    elements.machine.value = displayname ?? name;
    elements.password.value = password;
  });
}

async function openDeploy() {
  try {
    const usable = { page: "1", pagesize: "500", isready: "true", sortby: "name" };
    const [{ template = [] }, { iso = [] }, { serviceoffering = [] }] = await Promise.all([
      call("listTemplates", { templatefilter: "executable", ...usable }), call("listIsos", { isofilter: "executable", ...usable }),
      call("listServiceOfferings")]);
    const images = [...template, ...iso.map((each) => ({ ...each, format: "ISO" }))];
    $("#deploy [name=template]").replaceChildren(...options(images.map((t) => ({ id: t.id, label: `${t.name} (${t.format})` }))));
    $("#deploy [name=offering]").replaceChildren(...options(serviceoffering.map((o) => ({ id: o.id, label: o.displaytext ?? o.name }))));
    const layouts = Object.entries(KEYBOARDS).map(([id, label]) => ({ id, label }));
    $("#deploy [name=keyboard]").replaceChildren(...options([{ id: "", label: "Not known" }, ...layouts]));
    $("#deploy").showModal();
  } catch (error) {
    toast(error.message, true);
  }
}

// `zoneOf` returns the zone that is shown; `refresh` redraws the page.
export function wireMachines(zoneOf, refresh) {
  const machines = new List($("#vms"), {
    label: "virtual machines", columns: COLUMNS, refresh, load: rowsOf("listVirtualMachines", "virtualmachine", { listall: "true" }),
    filters: [{ name: "state", label: "State", choices: [["", "any"], ...STATES] }],
    empty: "There is no virtual machine yet. Deploy one from a template that is Ready.",
  });
  addSection({ id: "vms", title: "Virtual machines", command: "listVirtualMachines", tables: ["vm_instances", "nics", "hosts"],
    refresh: () => machines.refresh() });
  const systems = new List($("#system-vms"), {
    label: "system VMs", card: systemVmCard, refresh, load: rowsOf("listSystemVms", "systemvm"), sorts: [["name", "name"], ["state", "state"]],
    empty: "There is no system VM yet. The daemon creates them when it needs them.",
  });
  addSection({ id: "system-vms", title: "System VMs", command: "listSystemVms", tables: ["vm_instances", "nics", "zones"],
    refresh: () => systems.refresh() });
  $("#open-deploy").addEventListener("click", openDeploy);
  $("#machine-password").addEventListener("close", () => $("#machine-password form").reset()); // it does not stay in the page
  form($("#deploy"), async (data) => {
    const { name, template, offering, keyboard } = Object.fromEntries(data);
    const { jobid } = await call("deployVirtualMachine", {
      name, displayname: name, templateid: template, serviceofferingid: offering, zoneid: zoneOf().id, hypervisor: "KVM",
      ...(keyboard ? { keyboard } : {}),
    });
    toast(`${name} is being deployed.`);
    followJob(jobid).then(showPassword).catch((error) => toast(error.message, true)).finally(refresh);
  });
}
