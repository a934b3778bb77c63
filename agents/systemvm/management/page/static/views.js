// SPDX-License-Identifier: Apache-2.0
// Elements of the page. Text is always inserted as text, never as markup: names and errors come from users and servers.

import { duration, TransferRate } from "./transfer_rate.js";

const rates = new TransferRate();

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "data") Object.assign(node.dataset, value);
    else if (name === "style") Object.assign(node.style, value);
    else if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const GOOD = new Set(["Up", "Running", "Ready"]);
const BAD = new Set(["Alert", "Error", "Down", "Disconnected"]);

const CHANGING = new Set(["Starting", "Stopping", "Expunging", "Connecting"]);

// A state of the API, or what is being done, which no state tells yet.
function badge(state, busy) {
  const kind = GOOD.has(state) ? " good" : BAD.has(state) ? " bad" : CHANGING.has(state) ? " warn" : "";
  return element("span", { className: `state${busy ? " warn" : kind}` }, busy ?? state);
}

// Where a download has come to: by the state and the percentage of its copy. Its text is for people.
export function download(template) {
  const copies = template.downloaddetails ?? [];
  const failed = !template.isready && copies.some((copy) => copy.downloadState === "DOWNLOAD_ERROR");
  const percent = template.isready ? 100 : Math.max(0, ...copies.map((copy) => Number(copy.downloadPercent)));
  return { failed, percent, moving: !template.isready && !failed };
}

function action(name, label, item, extra = {}) {
  return element("button", { ...extra, data: { action: name, target: item.id, name: item.name } }, label);
}

export function bytes(count) {
  if (!count) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = Math.min(units.length - 1, Math.floor(Math.log2(count) / 10));
  return `${(count / 1024 ** step).toFixed(step ? 1 : 0)} ${units[step]}`;
}

// "1.2 GiB of 4.0 GiB · 35.2 MiB/s · 1 min 20 s left · from images.example.test to secondary by s-1-VM"
function transferred(template) {
  const copies = template.downloaddetails ?? [];
  const moving = copies.filter((copy) => copy.downloadState === "DOWNLOAD_IN_PROGRESS" && copy.receivedbytes);
  const copy = moving.sort((a, b) => b.receivedbytes - a.receivedbytes)[0];
  if (!copy) {
    rates.forget(template.id);
    return null;
  }
  const rate = rates.note(template.id, copy.receivedbytes, performance.now());
  const left = copy.totalbytes && rate ? duration((copy.totalbytes - copy.receivedbytes) / rate) : null;
  const source = URL.canParse(template.url ?? "") ? `from ${new URL(template.url).host}` : "";
  return [
    bytes(copy.receivedbytes) + (copy.totalbytes ? ` of ${bytes(copy.totalbytes)}` : ""),
    rate ? `${bytes(rate)}/s` : null,
    left ? `${left} left` : null,
    [source, `to ${copy.datastore}`, copy.systemvm ? `by ${copy.systemvm}` : ""].filter(Boolean).join(" "),
  ].filter(Boolean).join(" · ");
}

export function systemVmCard(vm, busy) {
  const storage = vm.systemvmtype === "secondarystoragevm";
  const facts = [
    ["role", storage ? "downloads templates to secondary storage" : "shows consoles in browsers"],
    ["control", vm.linklocalip], ["management", vm.privateip], ["public", vm.publicip], ["version", vm.version],
    ...(storage ? [] : [["sessions", String(vm.activeviewersessions ?? 0)]]),
  ].filter(([, value]) => value);
  const running = vm.state === "Running";
  return element("article", { className: "card" },
    element("div", { className: "top" }, element("strong", {}, vm.name), element("span", { className: "grow" }),
      badge(vm.state, busy), running ? badge(vm.agentstate ?? "Connecting") : null),
    element("dl", {}, ...facts.flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, value)])),
    vm.reason ? element("p", { className: "hint" }, vm.hint ? `${vm.reason} ${vm.hint}` : vm.reason) : null,
    element("div", { className: "actions" },
      running ? action("system-reboot", "Reboot", vm, { disabled: Boolean(busy) }) : null,
      running ? action("system-stop", "Stop", vm, { disabled: Boolean(busy) })
        : action("system-start", "Start", vm, { disabled: Boolean(busy) })));
}

export function templateRow(template, busy) {
  const { failed, percent, moving } = download(template);
  const progress = moving ? transferred(template) : null;
  const about = [template.format, bytes(template.physicalsize || template.size)].filter(Boolean).join(" · ");
  return element("article", { className: "row" },
    element("div", {}, element("div", { className: "top" }, element("strong", {}, template.name)), element("small", {}, about)),
    element("div", {},
      moving ? element("div", { className: "bar", role: "progressbar", ariaValueNow: String(percent), ariaValueMax: "100" },
        element("i", { style: { width: `${percent}%` } })) : null,
      failed ? element("p", { className: "hint bad" }, template.status)
        : element("small", {}, busy ?? (moving ? template.hint ?? progress : null) ?? template.status)),
    element("div", { className: "actions" }, template.isready ? badge("Ready") : null,
      action("trace", "Steps", template),
      failed ? action("template-retry", "Retry", template, { disabled: Boolean(busy) }) : null,
      action("template-delete", "Delete", template, { disabled: Boolean(busy) })));
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

export function vmRow(vm, busy) {
  const running = vm.state === "Running";
  const destroyed = vm.state === "Destroyed" || vm.state === "Expunging";
  const off = { disabled: Boolean(busy) };
  return element("article", { className: "row" },
    element("div", {}, element("div", { className: "top" }, element("strong", {}, vm.displayname ?? vm.name), badge(vm.state, busy)),
      element("small", {}, [vm.instancename, vm.templatename ?? vm.isoname].filter(Boolean).join(" · "))),
    element("div", {}, vm.reason ? element("p", { className: "hint" }, vm.hint ? `${vm.reason} ${vm.hint}` : vm.reason)
      : element("small", {}, vm.serviceofferingname ?? "")),
    element("div", { className: "actions" },
      running ? action("console", "View Console", vm, { className: "primary" }) : null,
      action("machine-trace", "Steps", vm),
      running ? action("vm-reboot", "Reboot", vm, off) : null,
      destroyed ? action("vm-recover", "Recover", vm, { disabled: Boolean(busy) || vm.state !== "Destroyed" })
        : running ? action("vm-stop", "Stop", vm, off)
          : action("vm-start", "Start", vm, { disabled: Boolean(busy) || vm.state !== "Stopped" }),
      destroyed ? action("vm-expunge", "Expunge", vm, { ...off, className: "danger" })
        : action("vm-destroy", "Destroy", vm, { ...off, className: "danger" })));
}
