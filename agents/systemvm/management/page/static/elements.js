// SPDX-License-Identifier: Apache-2.0
// Pieces of all views. Text is always inserted as text, never as markup: names and errors come from users and servers.

import { commands } from "./api.js";

export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (name === "data") Object.assign(node.dataset, value);
    else if (name === "style") Object.assign(node.style, value);
    else if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const GOOD = new Set(["Up", "Enabled", "Running", "Ready", "BackedUp", "writable"]);
const BAD = new Set(["Alert", "Error", "Down", "Disconnected"]);
const CHANGING = new Set(["Starting", "Stopping", "Expunging", "Connecting", "retiring"]);

// A state of the API, or what is being done, which no state tells yet.
export function badge(state, busy) {
  const kind = GOOD.has(state) ? " good" : BAD.has(state) ? " bad" : CHANGING.has(state) ? " warn" : "";
  return element("span", { className: `state${busy ? " warn" : kind}` }, busy ?? state);
}

// A button that app.js or a module of it handles by its name. One that is disabled keeps the keyboard's place.
export function action(name, label, item, { disabled, ...extra } = {}) {
  return element("button", { ...extra, type: "button", ariaDisabled: disabled ? "true" : null, data: { action: name, target: item.id, name: item.name } }, label);
}

// Such a button if the user is allowed to call the command that it needs, else null.
export function offer(command, ...button) {
  return commands().has(command) ? action(...button) : null;
}

// What is wrong with an object of the API, and in a line of its own what to do, which can be a command.
export function problem({ reason, hint }, bad = false) {
  const lines = hint ? [reason, element("br"), hint] : [reason];
  return reason ? element("p", { className: bad ? "hint bad" : "hint" }, ...lines) : null;
}

export function progress(percent, label, ...marks) {
  const value = Math.round(Math.max(0, Math.min(100, percent)));
  return element("div", { className: "bar", role: "progressbar", ariaLabel: label, ariaValueNow: String(value),
    ariaValueMin: "0", ariaValueMax: "100" }, element("i", { style: { width: `${value}%` } }), ...marks);
}

export function bytes(count) {
  if (!count) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = Math.min(units.length - 1, Math.floor(Math.log2(count) / 10));
  return `${(count / 1024 ** step).toFixed(step ? 1 : 0)} ${units[step]}`;
}
