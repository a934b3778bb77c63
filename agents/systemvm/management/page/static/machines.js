// SPDX-License-Identifier: Apache-2.0
// Virtual machines of users, and system VMs: listed, deployed, started and stopped, and their consoles.

import { call, followJob, job } from "./api.js";
import { badge, element } from "./elements.js";
import { askFields, opening } from "./field_dialog.js";
import { KEYBOARDS } from "./keyboards.js";
import { List, rowsOf } from "./list.js";
import { askPool } from "./pools.js";
import { showSecret } from "./secret_dialog.js";
import { addSection } from "./sections.js";
import { showSteps } from "./steps.js";
import { byTag, TAG_FILTER } from "./tag_filter.js";
import { $, ask, onClick, presence, titled, toast } from "./ui.js";
import { systemVmCard, vmCells } from "./views.js";
import { act, actions } from "./work.js";
import { ZONE_COLUMN, ZONE_FILTER, firstOf, zoneField } from "./zone_choice.js";

const STATES = ["Running", "Stopped", "Starting", "Stopping", "Destroyed", "Error"].map((state) => [state, state]);
const USABLE = { page: "1", pagesize: "500", isready: "true", sortby: "name" };
const COLUMNS = [
  { label: "Name", sort: "name", className: "wide", cell: vmCells.name },
  { label: "State", sort: "state", cell: (vm, busy) => badge(vm.state, busy) },
  ZONE_COLUMN,
  { label: "Size", cell: vmCells.size },
  { label: "Created", sort: "created", cell: ({ created }) => (created ? new Date(created).toLocaleDateString() : "") },
  { label: "Actions", className: "actions", cell: vmCells.buttons },
];

let list;
let refreshPage = () => {};

Object.assign(actions, {
  "system-start": (id) => act(id, "Starting…", () => job("startSystemVm", { id })),
  "system-stop": (id) => act(id, "Stopping…", () => job("stopSystemVm", { id })),
  async "system-destroy"(id, name) {
    if (await ask(titled`Destroy ${name}?`, "Its transfers and consoles end. The daemon creates another one.", "Destroy")) {
      await act(id, "Destroying…", () => job("destroySystemVm", { id }));
    }
  },
  "system-reboot": (id) => act(id, "Rebooting…", () => job("rebootSystemVm", { id })),
  async "system-patch"(id, name) {
    if (await ask(titled`Patch ${name}?`, "It gets the agent of this daemon. Downloads begin again, and consoles come back by themselves.", "Patch")) {
      await act(id, "Patching…", async () => {
        await job("patchSystemVm", { id });
        toast(`${name} has the agent of this daemon.`);
      });
    }
  },
  "system-logs": (id) => act(id, "Collecting logs…", async () => {
    const { diagnostics } = await job("getDiagnosticsData", { targetid: id });
    // the daemon serves it where the page is, whatever the browser reaches the page by
    element("a", { href: new URL(diagnostics.url).pathname, download: "" }).click();
  }),
  "vm-start": (id) => act(id, "Starting…", () => job("startVirtualMachine", { id })),
  "vm-reboot": (id) => act(id, "Rebooting…", () => job("rebootVirtualMachine", { id })),
  "vm-stop": (id) => act(id, "Stopping…", () => job("stopVirtualMachine", { id })),
  async "vm-destroy"(id, name) {
    if (await ask(titled`Destroy ${name}?`, "The virtual machine is turned off. An administrator can recover it until its disk is deleted.", "Destroy")) {
      await act(id, "Destroying…", () => job("destroyVirtualMachine", { id }));
    }
  },
  "vm-recover": (id) => act(id, "Recovering…", () => call("recoverVirtualMachine", { id })),
  async "vm-expunge"(id, name) {
    if (await ask(titled`Expunge ${name}?`, "This deletes its disk permanently.", "Expunge")) {
      await act(id, "Expunging…", () => job("expungeVirtualMachine", { id }));
    }
  },
  "vm-rename"(id, name) {
    const { displayname = name } = list.find(id);
    askFields({
      title: titled`Rename ${displayname}`, text: "The name for people; that of the guest stays.", verb: "Rename",
      fields: [{ name: "displayname", label: "New name", required: true, maxLength: 255, value: displayname }],
      submit: (values) => call("updateVirtualMachine", { id, ...values }),
    });
  },
  "vm-move": (id, name) => askPool({
    title: titled`Move ${name}`, text: "All its volumes go to the storage pool.", zoneid: list.find(id).zoneid,
    async submit(values) {
      const { jobid } = await call("migrateVirtualMachine", { virtualmachineid: id, ...values }); // what refuses it at once is shown in the dialog
      act(id, "Moving…", () => followJob(jobid));
    },
  }),
  "vm-attach-iso": (id, name) => askIso(id, name),
  "vm-detach-iso"(id, name) {
    const { isoname } = list.find(id);
    askFields({
      title: titled`Detach ${isoname} from ${name}`, text: "Unmount it in the guest first.", verb: "Detach",
      fields: [{ name: "forced", label: "Eject it even if the guest uses it", type: "checkbox" }],
      async submit(values) {
        const { jobid } = await call("detachIso", { virtualmachineid: id, ...values });
        act(id, "Detaching…", () => followJob(jobid));
      },
    });
  },
  "vm-scale": (id, name) => openScale(id, name),
  "vm-restore": (id, name) => openRestore(id, name),
  async "vm-password"(id, name) {
    const text = "Its guest takes the new password at its next start. It is shown here once.";
    if (await ask(titled`Reset the password of ${name}?`, text, "Reset")) {
      const present = presence();
      await act(id, "Resetting…", async () => showPassword(await job("resetPasswordForVirtualMachine", { id }), true, present));
    }
  },
  "machine-trace": (id, name) => showSteps(name, { virtualmachineid: id }),
  console: (id) => openConsole(id),
  "serial-console": (id) => openConsole(id, "serial"),
});

async function askIso(virtualmachineid, name) {
  const open = opening();
  try {
    const { iso = [] } = await call("listIsos", { isofilter: "executable", ...USABLE, zoneid: list.find(virtualmachineid).zoneid });
    if (!iso.length) throw new Error("There is no ISO that is ready in this zone. Register one first.");
    open({
      title: titled`Attach an ISO to ${name}`, text: "A machine that runs has it at once, a stopped one from its next start on.", verb: "Attach",
      fields: [{ name: "id", label: "ISO", required: true, choices: iso.map((each) => [each.id, each.name]) }],
      async submit(values) {
        const { jobid } = await call("attachIso", { virtualmachineid, ...values }); // what refuses it at once is shown in the dialog
        act(virtualmachineid, "Attaching…", () => followJob(jobid));
      },
    });
  } catch (error) {
    toast(error.message, true);
  }
}

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

// A job's result has the password of its machine once: the answer that had it can be lost. `expected` is whether the
// machine has got one.
function showPassword({ virtualmachine }, expected, present = presence()) {
  const { name, displayname, password } = virtualmachine ?? {};
  if (!password) {
    if (expected) toast(`the password of ${displayname ?? name ?? "the virtual machine"} was told once, and is lost: reset it again`, true);
    return;
  }
  showSecret({
    present,
    title: "The password of the virtual machine", text: "The guest takes it for its user. Copy it now: nothing shows it again.",
    values: [{ name: "machine", label: "Virtual machine", value: displayname ?? name, copied: false }, { name: "password", label: "Password", value: password }],
  });
}

async function openScale(id, name) {
  const open = opening();
  try {
    const { serviceoffering = [] } = await call("listServiceOfferings");
    const others = serviceoffering.filter((each) => each.id !== list.find(id).serviceofferingid);
    open({
      title: titled`Change the size of ${name}`, text: "It has the new CPUs and memory from its next start.", verb: "Change",
      fields: [{ name: "serviceofferingid", label: "Size", required: true, choices: others.map((each) => [each.id, each.displaytext ?? each.name]) }],
      async submit(values) {
        const { jobid } = await call("scaleVirtualMachine", { id, ...values });
        act(id, "Changing…", () => followJob(jobid));
      },
    });
  } catch (error) {
    toast(error.message, true);
  }
}

async function openRestore(id, name) {
  const open = opening();
  try {
    const { templateid, templatename, isoid, passwordenabled, zoneid } = list.find(id); // one of an ISO has no template's name
    const usable = { ...USABLE, zoneid };
    const { template, iso } = templatename ? await call("listTemplates", { templatefilter: "executable", ...usable })
      : await call("listIsos", { isofilter: "executable", ...usable });
    const own = templatename ? templateid : isoid; // undefined when its ISO is detached
    const others = (template ?? iso ?? []).filter((image) => image.id !== own);
    open({
      title: titled`Restore ${name}?`, verb: "Restore", danger: true,
      text: "This deletes what is on its root disk. A virtual machine that runs is stopped and started again; its volumes and snapshots stay.",
      fields: [{ name: "templateid", label: "From", choices: [...(own ? [["", "what it was deployed from"]] : []), ...others.map((image) => [image.id, image.name])] }],
      async submit(values) {
        const [present, image] = [presence(), others.find((each) => each.id === values.templateid) ?? { passwordenabled }];
        const { jobid } = await call("restoreVirtualMachine", { virtualmachineid: id, ...values });
        act(id, "Restoring…", async () => showPassword(await followJob(jobid), image.passwordenabled, present));
      },
    });
  } catch (error) {
    toast(error.message, true);
  }
}

// A script with the carriage returns of a form would not run.
const base64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text.replaceAll("\r\n", "\n"))));

// What a zone offers to a new machine: images that are ready, and networks as choices.
async function imagesAndNetworks(zoneid) {
  const usable = { ...USABLE, zoneid };
  const [{ template = [] }, { iso = [] }, { network = [] }] = await Promise.all([
    call("listTemplates", { templatefilter: "executable", ...usable }), call("listIsos", { isofilter: "executable", ...usable }),
    call("listNetworks", { canusefordeploy: "true", zoneid })]);
  const own = network.some(({ isdefault }) => isdefault) ? [["", "the zone's own"]] : [];
  return { images: [...template, ...iso.map((each) => ({ ...each, format: "ISO" }))],
    networks: [...own, ...network.filter(({ isdefault }) => !isdefault).map((each) => [each.id, each.name])] };
}

async function openDeploy() {
  const open = opening();
  try {
    const zone = zoneField();
    const images = new Map(); // by id, of the zones that were chosen
    const ofZone = async (zoneid) => {
      const found = await imagesAndNetworks(zoneid);
      for (const image of found.images) images.set(image.id, image);
      return { templateid: found.images.map((image) => [image.id, `${image.name} (${image.format})`]), networkids: found.networks };
    };
    const [{ templateid, networkids }, { serviceoffering = [] }] = await Promise.all([ofZone(firstOf(zone)), call("listServiceOfferings")]);
    open({
      title: "Deploy a virtual machine", verb: "Deploy", ofZone,
      fields: [
        zone,
        { name: "name", label: "Name", required: true, maxLength: 63, pattern: "[A-Za-z]([A-Za-z0-9\\-]*[A-Za-z0-9])?", placeholder: "web-1" },
        { name: "templateid", label: "From", required: true, choices: templateid },
        { name: "serviceofferingid", label: "Size", required: true, choices: serviceoffering.map((each) => [each.id, each.displaytext ?? each.name]) },
        { name: "networkids", label: "Network", choices: networkids },
        { name: "keyboard", label: "Keyboard of the guest", choices: [["", "Not known"], ...Object.entries(KEYBOARDS)] },
        { name: "boottype", label: "Firmware", choices: [["", "BIOS (arm64: UEFI)"], ["UEFI", "UEFI"]] },
        { name: "userdata", label: "User data, such as of cloud-init", rows: 3, maxLength: 24000, spellcheck: false, placeholder: "(optional)" }],
      async submit({ userdata, ...values }) {
        const [{ name }, present] = [values, presence()];
        const { jobid } = await call("deployVirtualMachine", { ...values, ...(userdata ? { userdata: base64(userdata) } : {}), displayname: name, hypervisor: "KVM" });
        toast(`${name} is being deployed.`);
        const { passwordenabled } = images.get(values.templateid);
        followJob(jobid).then((result) => showPassword(result, passwordenabled, present)).catch((error) => toast(error.message, true)).finally(refreshPage);
      },
    });
  } catch (error) {
    toast(error.message, true);
  }
}

// `refresh` redraws the page.
export function wireMachines(refresh) {
  refreshPage = refresh;
  list = new List($("#vms"), {
    label: "virtual machines", columns: COLUMNS, refresh, load: byTag(rowsOf("listVirtualMachines", "virtualmachine", { listall: "true" })),
    filters: [{ name: "state", label: "State", choices: [["", "any"], ...STATES] }, ZONE_FILTER, TAG_FILTER],
    empty: "There is no virtual machine yet. Deploy one from a template that is Ready.",
  });
  addSection({ id: "vms", title: "Virtual machines", command: "listVirtualMachines", tables: ["vm_instances", "nics", "hosts", "resource_tags"],
    refresh: () => list.refresh() });
  const systems = new List($("#system-vms"), {
    label: "system VMs", card: systemVmCard, refresh, load: rowsOf("listSystemVms", "systemvm"), sorts: [["name", "name"], ["state", "state"]], filters: [ZONE_FILTER],
    empty: "There is no system VM yet. The daemon creates them when it needs them.",
  });
  addSection({ id: "system-vms", title: "System VMs", command: "listSystemVms", tables: ["vm_instances", "nics", "zones"],
    refresh: () => systems.refresh() });
  onClick("#open-deploy", openDeploy);
}
