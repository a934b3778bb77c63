// SPDX-License-Identifier: Apache-2.0
// The rows and cards of the page.

import { commands } from "./api.js";
import { nameOf, tagsOf } from "./details.js";
import { badge, bytes, element, offer, problem, progress } from "./elements.js";
import { thumbnail } from "./thumbnails.js";
import { duration, TransferRate } from "./transfer_rate.js";

const rates = new TransferRate();
const FAILED = new Set(["DOWNLOAD_ERROR", "UPLOAD_ERROR"]);
const MOVING = new Set(["NOT_DOWNLOADED", "DOWNLOAD_IN_PROGRESS", "NOT_UPLOADED", "UPLOAD_IN_PROGRESS"]);
const UPLOADED = new Set(["NOT_UPLOADED", "UPLOAD_IN_PROGRESS", "UPLOAD_ERROR"]);

// Where a download has come to: by the state and the percentage of its copy. Its text is for people.
export function download(template) {
  const copies = template.downloaddetails ?? [];
  const failed = !template.isready && copies.some((copy) => FAILED.has(copy.downloadState));
  const percent = template.isready ? 100 : Math.max(0, ...copies.map((copy) => Number(copy.downloadPercent)));
  // its user sends the file, from this browser or another
  const uploaded = !template.isready && copies.some((copy) => UPLOADED.has(copy.downloadState));
  return { failed, percent, moving: !template.isready && !failed, uploaded };
}

// "1.2 GiB of 4.0 GiB · 35.2 MiB/s · 1 min 20 s left · from images.example.test to secondary by s-1-VM"
function copyText(template, copy) {
  const key = `${template.id} ${copy.datastore}`;
  const { receivedbytes: received, totalbytes: total } = copy;
  const source = URL.canParse(template.url ?? "") ? `from ${new URL(template.url).host}` : "";
  const way = [source, `to ${copy.datastore}`, copy.systemvm ? `by ${copy.systemvm}` : ""].filter(Boolean).join(" ");
  if (!received) {
    rates.forget(key);
    return way;
  }
  const rate = rates.note(key, received, performance.now());
  const left = total && rate ? duration((total - received) / rate) : null;
  const of = bytes(received) + (total ? ` of ${bytes(total)}` : "");
  return [of, rate ? `${bytes(rate)}/s` : null, left ? `${left} left` : null, way].filter(Boolean).join(" · ");
}

// Each copy of a template that is not complete, and why it waits.
function copies(template) {
  const details = template.downloaddetails ?? [];
  const moving = details.filter((copy) => MOVING.has(copy.downloadState));
  const lines = moving.map((copy) => copyText(template, copy));
  return [template.hint, ...lines].filter(Boolean).map((line) => element("small", {}, line));
}

function places(template) {
  const details = template.downloaddetails ?? [];
  const ready = details.filter((copy) => ["DOWNLOADED", "UPLOADED"].includes(copy.downloadState));
  return ready.length ? `on ${ready.map((copy) => copy.datastore).join(", ")}` : "";
}

export function systemVmCard(vm, busy) {
  const storage = vm.systemvmtype === "secondarystoragevm";
  const facts = [
    ["role", storage ? "downloads templates to secondary storage" : "shows consoles in browsers"],
    ["zone", vm.zonename], ["control", vm.linklocalip], ["management", vm.privateip], ["public", vm.publicip], ["version", vm.version],
    ...(storage ? [] : [["sessions", String(vm.activeviewersessions ?? 0)]]),
  ].filter(([, value]) => value);
  const running = vm.state === "Running";
  return element("article", { className: "card" },
    element("div", { className: "top" }, nameOf("SYSTEM_VM", vm), element("span", { className: "grow" }),
      badge(vm.state, busy), running ? badge(vm.agentstate ?? "Connecting") : null),
    element("dl", {}, ...facts.flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, value)])),
    problem(vm),
    element("div", { className: "actions" },
      running ? offer("createConsoleEndpoint", "console", "View Console", vm) : null,
      running ? offer("createConsoleEndpoint", "serial-console", "Serial Port", vm) : null,
      running ? offer("getDiagnosticsData", "system-logs", "Logs", vm, { disabled: Boolean(busy) }) : null,
      running ? offer("patchSystemVm", "system-patch", "Patch…", vm, { disabled: Boolean(busy) }) : null,
      running ? offer("rebootSystemVm", "system-reboot", "Reboot", vm, { disabled: Boolean(busy) }) : null,
      running ? offer("stopSystemVm", "system-stop", "Stop", vm, { disabled: Boolean(busy) })
        : offer("startSystemVm", "system-start", "Start", vm, { disabled: Boolean(busy) }),
      offer("destroySystemVm", "system-destroy", "Destroy", vm, { disabled: Boolean(busy), className: "danger" })));
}

// The cells of a template's row.
export const templateCells = {
  name: (template) => [nameOf(template.format === "ISO" ? "ISO" : "TEMPLATE", template.image),
    element("small", {}, [template.format, template.account].filter(Boolean).join(" · ")), tagsOf(template)],
  size: (template) => bytes(template.physicalsize || template.size),
  state(template, busy) {
    const { failed, percent, moving } = download(template);
    if (failed) return [element("p", { className: "hint bad" }, template.status), template.hint ? element("p", { className: "hint" }, template.hint) : null];
    return [moving ? progress(percent, `Transfer of ${template.name}`) : badge(template.isready ? "Ready" : template.status, busy),
      element("small", {}, busy ?? statusOf(template)), ...copies(template),
      element("small", {}, places(template))];
  },
  // `canExtract` is whether the user gets links to all images
  buttons(template, busy, canExtract) {
    const { failed, uploaded } = download(template);
    const off = { disabled: Boolean(busy) };
    const kind = template.format === "ISO" ? "Iso" : "Template";
    return [
      offer("listEvents", "trace", "Steps", template),
      template.isready && (canExtract || template.isextractable) ? offer(`extract${kind}`, "template-link", "Download…", template, off) : null,
      uploaded ? offer(`renewUploadParamsFor${kind}`, "template-upload", "Upload file…", template, off) : null,
      offer(`update${kind}`, "template-edit", "Edit…", template, off),
      template.isready ? offer(`copy${kind}`, "template-copy", "Copy…", template, off) : null,
      offer(`update${kind}Permissions`, "template-share", "Share…", template, off),
      failed && !uploaded ? offer(`retry${kind}`, "template-retry", "Retry", template, off) : null,
      offer(`delete${kind}`, "template-delete", "Delete", template, { ...off, className: "danger" })];
  },
};

function statusOf({ status, downloaddetails = [] }) {
  return downloaddetails.some((copy) => copy.downloadState === "NOT_UPLOADED") ? "Waits for its file." : status;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 1 });

/** The events of one thing as list items, the oldest first, each with its time since the first. */
export function steps(events) {
  const ordered = [...events].sort((a, b) => a.createdms - b.createdms);
  const began = ordered[0]?.createdms ?? 0;
  return ordered.map((event) => element("li", { className: { ERROR: "bad", WARN: "warn" }[event.level] ?? "" },
    element("time", { title: event.type }, `${CLOCK.format(event.createdms)} · +${((event.createdms - began) / 1000).toFixed(1)} s`),
    element("span", {}, event.description)));
}

const mayWatch = () => ["createConsoleThumbnail", "createConsoleEndpoint"].every((command) => commands().has(command));

// The cells of a VM's row. A VM on a host that the cloud does not control only has a console.
export const vmCells = {
  name(vm) {
    const about = vm.hypervisor === "KVM" ? [vm.instancename, vm.nic?.[0]?.ipaddress, vm.templatename ?? vm.isoname] : [vm.hypervisor, vm.hostname];
    return element("div", { className: "machine" }, vm.hypervisor === "KVM" && vm.state === "Running" && mayWatch() ? thumbnail(vm) : null,
      element("div", {}, vm.hypervisor === "KVM" ? nameOf("VM", vm, vm.displayname) : element("strong", {}, vm.displayname ?? vm.name),
        element("small", {}, about.filter(Boolean).join(" · ")), tagsOf(vm)));
  },
  size(vm) {
    const size = vm.memory ? `${vm.cpunumber} vCPU, ${vm.memory} MiB` : "";
    return problem(vm, vm.state === "Running") ?? element("small", {}, vm.hypervisor === "KVM" ? vm.serviceofferingname ?? size : size);
  },
  buttons(vm, busy) {
    const running = vm.state === "Running";
    const console = running ? offer("createConsoleEndpoint", "console", "View Console", vm, { className: "primary" }) : null;
    const trace = offer("listEvents", "machine-trace", "Steps", vm);
    if (vm.hypervisor !== "KVM") return [console, trace];
    const destroyed = vm.state === "Destroyed" || vm.state === "Expunging";
    const off = { disabled: Boolean(busy) };
    return [
      console,
      running ? offer("createConsoleEndpoint", "serial-console", "Serial Port", vm) : null,
      trace,
      destroyed ? null : offer("updateVirtualMachine", "vm-rename", "Rename…", vm, off),
      vm.passwordenabled && vm.state === "Stopped" ? offer("resetPasswordForVirtualMachine", "vm-password", "Reset password…", vm, off) : null,
      !running && vm.state !== "Stopped" ? null
        : vm.isoid ? offer("detachIso", "vm-detach-iso", "Detach ISO…", vm, off) : offer("attachIso", "vm-attach-iso", "Attach ISO…", vm, off),
      vm.state === "Stopped" ? offer("scaleVirtualMachine", "vm-scale", "Change size…", vm, off) : null,
      vm.state === "Stopped" ? offer("migrateVirtualMachine", "vm-move", "Move…", vm, off) : null,
      running || vm.state === "Stopped" ? offer("restoreVirtualMachine", "vm-restore", "Restore…", vm, { ...off, className: "danger" }) : null,
      running ? offer("rebootVirtualMachine", "vm-reboot", "Reboot", vm, off) : null,
      destroyed ? offer("recoverVirtualMachine", "vm-recover", "Recover", vm, { disabled: Boolean(busy) || vm.state !== "Destroyed" })
        : running ? offer("stopVirtualMachine", "vm-stop", "Stop", vm, off)
          : offer("startVirtualMachine", "vm-start", "Start", vm, { disabled: Boolean(busy) || vm.state !== "Stopped" }),
      destroyed ? offer("expungeVirtualMachine", "vm-expunge", "Expunge", vm, { ...off, className: "danger" })
        : offer("destroyVirtualMachine", "vm-destroy", "Destroy", vm, { ...off, className: "danger" })];
  },
};
