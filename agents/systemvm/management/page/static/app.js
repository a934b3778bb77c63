// SPDX-License-Identifier: Apache-2.0
// The page: polls the API every second while something changes, else every three seconds, and redraws what changed.

import { accountActions, refreshAccounts, wireAccounts } from "./accounts.js";
import { ApiError, call, followJob, forget, job, loggedIn, login, logout, user } from "./api.js";
import { certificateActions, refreshCertificates, wireCertificates } from "./certificates.js";
import { showLink, wireLink } from "./extract.js";
import { hostActions, refreshHosts, wireHosts } from "./hosts.js";
import { KEYBOARDS } from "./keyboards.js";
import { wireKeys } from "./keys.js";
import { askForCode, forgetSecrets, wireSecondFactor } from "./second_factor.js";
import { refreshStores, storeActions, wireStores } from "./stores.js";
import { refreshPicture, wirePicture } from "./zone_picture.js";
import { $, ask, draw, form, options, toast, wireCancelButtons } from "./ui.js";
import { endUploads, isUploading, reconcileUploads, restoreUploads, uploadActions, uploadAgain, wireUploads } from "./uploads.js";
import { download, systemVmCard, templateRow, vmRow, steps } from "./views.js";

const state = { zone: null, templates: [], machines: [], busy: new Map(), timer: 0 };

function show(place) {
  $("#login").hidden = place !== "login";
  $("#code").hidden = place !== "code";
  $("#cloud").hidden = place !== "cloud";
  if (place === "login") forgetSecrets();
}

// ---- following the cloud ------------------------------------------------------------------------------------

// All rows for an administrator; for a user their own and the public ones.
async function listed(command, filter, key) {
  const filters = user().admin ? ["all"] : ["self", "executable"];
  const answers = await Promise.all(filters.map((wanted) => call(command, { [filter]: wanted })));
  return [...new Map(answers.flatMap((answer) => answer[key] ?? []).map((row) => [row.id, row])).values()];
}

async function refresh() {
  clearTimeout(state.timer);
  if (!loggedIn()) {
    show("login");
    return;
  }
  if (user().secondFactor) {
    await showCode();
    return;
  }
  let pause = 3000;
  try {
    const { admin, administrator } = user();
    const [zones, systems, templates, isos, vms] = await Promise.all([
      call("listZones"),
      admin ? call("listSystemVms") : {},
      listed("listTemplates", "templatefilter", "template"),
      listed("listIsos", "isofilter", "iso"),
      call("listVirtualMachines", { listall: "true" }),
    ]);
    state.zone = zones.zone?.[0] ?? null;
    state.templates = [...templates, ...isos.map((iso) => ({ ...iso, format: "ISO" }))];
    for (const section of document.querySelectorAll(".operators")) section.hidden = !admin;
    if (!administrator) $("#accounts-section").hidden = true; // refreshAccounts shows it
    state.machines = vms.virtualmachine ?? [];
    $("#zone").textContent = state.zone?.name ?? "";
    const { busy } = state;
    draw($("#system-vms"), systems.systemvm ?? [], systemVmCard, "There is no system VM yet. The daemon creates them when it needs them.", busy);
    reconcileUploads(state.templates);
    draw($("#templates"), state.templates.filter((t) => !isUploading(t.id)), (template, doing) => templateRow(template, doing, admin || template.isextractable),
      "There is no template or ISO yet. Register a URL, or upload a file, to begin.", busy);
    draw($("#vms"), state.machines, vmRow, "There is no virtual machine yet. Deploy one from a template that is Ready.", busy);
    const storesMove = admin && await refreshStores(busy);
    if (admin) await refreshPicture(zones.zone ?? []);
    if (admin) await refreshHosts(busy);
    if (admin) await refreshCertificates(busy);
    if (administrator) await refreshAccounts(busy);
    $("#open-deploy").disabled = !state.templates.some((t) => t.isready);
    const moving = state.templates.some((t) => download(t).moving);
    const changing = (systems.systemvm ?? []).some((v) => v.agentstate !== "Up");
    pause = moving || changing || storesMove || busy.size ? 1000 : 3000;
    $("#live").className = "live";
    $("#live").textContent = "live";
    show("cloud");
  } catch (error) {
    if (error instanceof ApiError && error.code === 401) {
      forget();
      show("login");
      return;
    }
    $("#live").className = "live off";
    $("#live").textContent = "not connected";
    show("cloud");
  }
  state.timer = setTimeout(refresh, pause);
}

// Ask for the second factor; a session that has ended meanwhile begins with the password again.
async function showCode() {
  if (!$("#code").hidden) return;
  show("code");
  try {
    await askForCode();
  } catch (error) {
    await leave();
    toast(error.message, true);
  }
}

async function leave() {
  await logout().catch(() => {});
  show("login");
}

async function act(id, doing, work) {
  state.busy.set(id, doing);
  refresh();
  try {
    await work();
  } catch (error) {
    toast(error.message, true);
  } finally {
    state.busy.delete(id);
    refresh();
  }
}

// ---- actions of the user -----------------------------------------------------------------------------------

const templateOf = (id) => state.templates.find((template) => template.id === id);
const isIso = (id) => templateOf(id)?.format === "ISO";

const actions = {
  ...accountActions,
  ...certificateActions,
  ...storeActions,
  ...hostActions,
  ...uploadActions,
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
  async "template-retry"(id) {
    await act(id, "Retrying…", () => call(isIso(id) ? "retryIso" : "retryTemplate", { id }));
  },
  "template-link": (id) => act(id, "Creating a link…", () => showLink(templateOf(id))),
  "template-upload": (id) => uploadAgain(templateOf(id), isIso(id)),
  async "template-delete"(id, name) {
    const iso = isIso(id);
    const used = !iso && state.machines.some((vm) => vm.templateid === id);
    const text = used ? "Virtual machines use this template. They keep their disks; the template is deleted from secondary storage."
      : "This deletes it from secondary storage.";
    if (!(await ask(`Delete ${name}?`, text, "Delete"))) return;
    await act(id, "Deleting…", () => job(iso ? "deleteIso" : "deleteTemplate", { id, ...(used ? { forced: "true" } : {}) }));
  },
  trace: (id, name) => showSteps(name, { resourceid: id }),
  "machine-trace": (id, name) => showSteps(name, { virtualmachineid: id }),
  console: (id) => openConsole(id),
  "serial-console": (id) => openConsole(id, "serial"),
};

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

async function showSteps(name, of) {
  try {
    const { event = [] } = await call("listEvents", { ...of, page: "1", pagesize: "500" });
    const dialog = $("#steps");
    dialog.querySelector("h2").textContent = `${name}, step by step`;
    dialog.querySelector("ol").replaceChildren(...steps(event));
    dialog.querySelector("p").hidden = event.length > 0;
    dialog.showModal();
  } catch (error) {
    toast(error.message, true);
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-action]");
  if (button) actions[button.dataset.action](button.dataset.target, button.dataset.name);
});

// The page shows at once what a dialog has changed; the event does not bubble.
document.addEventListener("close", refresh, { capture: true });

const zone = () => state.zone;
wireStores(zone, act);
wireHosts(zone, act);
wireCertificates(act);
wireUploads(zone, refresh);
wireLink();
wireAccounts(act, refresh);
wirePicture(refresh);
wireKeys();
wireSecondFactor(refresh, leave);
wireCancelButtons();

form($("#register"), async (data) => {
  const { name, url, format, checksum } = Object.fromEntries(data);
  const common = { name, displaytext: name, url, zoneid: state.zone.id, ...(checksum ? { checksum } : {}) };
  if (format === "ISO") await call("registerIso", { ...common, bootable: "true" });
  else await call("registerTemplate", { ...common, format, hypervisor: "KVM" });
  toast(`${name} is registered. Its download starts.`);
});

form($("#password"), async (data) => {
  const { current, next, again } = Object.fromEntries(data);
  if (next !== again) throw new Error("new passwords differ: enter the same one twice");
  await call("updateUser", { id: user().id, currentpassword: current, password: next });
  toast("The password is changed. Your other logins have ended.");
});

form($("#deploy"), async (data) => {
  const { name, template, offering, keyboard } = Object.fromEntries(data);
  const { jobid } = await call("deployVirtualMachine", {
    name, displayname: name, templateid: template, serviceofferingid: offering, zoneid: state.zone.id, hypervisor: "KVM",
    ...(keyboard ? { keyboard } : {}),
  });
  toast(`${name} is being deployed.`);
  follow(jobid);
});

async function follow(jobid) {
  state.busy.set(jobid, "Deploying…");
  try {
    await followJob(jobid);
  } catch (error) {
    toast(error.message, true);
  } finally {
    state.busy.delete(jobid);
    refresh();
  }
}

$("#open-password").addEventListener("click", () => $("#password").showModal());
$("#open-register").addEventListener("click", () => $("#register").showModal());
$("#open-deploy").addEventListener("click", async () => {
  const ready = state.templates.filter((t) => t.isready);
  const { serviceoffering } = await call("listServiceOfferings");
  const from = $("#deploy [name=template]");
  from.replaceChildren(...options(ready.map((t) => ({ id: t.id, label: `${t.name} (${t.format})` }))));
  $("#deploy [name=offering]").replaceChildren(...options((serviceoffering ?? []).map((o) => ({ id: o.id, label: o.displaytext ?? o.name }))));
  const layouts = Object.entries(KEYBOARDS).map(([id, label]) => ({ id, label }));
  $("#deploy [name=keyboard]").replaceChildren(...options([{ id: "", label: "Not known" }, ...layouts]));
  $("#deploy").showModal();
});
$("#logout").addEventListener("click", async () => {
  await logout().catch(() => {});
  endUploads();
  clearTimeout(state.timer);
  show("login");
});
$("#login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const errorLine = $("#login-error");
  errorLine.hidden = true;
  const { username, password, domain } = Object.fromEntries(new FormData(event.target));
  try {
    await login(username, password, domain.trim());
    event.target.reset();
    restoreUploads();
    await refresh();
  } catch (error) {
    errorLine.textContent = error.message;
    errorLine.hidden = false;
  }
});

if (loggedIn()) {
  restoreUploads();
  refresh();
} else show("login");
