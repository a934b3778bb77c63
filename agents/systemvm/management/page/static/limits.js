// SPDX-License-Identifier: Apache-2.0
// How much an account or a domain can have, how much it has, and other limits.

import { ApiError, call, commands, user } from "./api.js";
import { action, bytes, element, progress } from "./elements.js";
import { addSection } from "./sections.js";
import { $, form, show, titled } from "./ui.js";
import { actions } from "./work.js";

const GIB = 1024 ** 3;
const NAMES = { user_vm: "VMs", public_ip: "Public addresses", volume: "Volumes", snapshot: "Snapshots", template: "Templates and ISOs",
  network: "Networks", cpu: "Virtual CPUs", memory: "Memory", primary_storage: "Primary storage", secondary_storage: "Secondary storage" };
const UNITS = { memory: "MiB", primary_storage: "GiB", secondary_storage: "GiB" };
// `owner` is whose limits are shown: {domainid, account, label}, where domains have no account; null is the user's own.
const shown = { owner: null, limits: [] };

export const nameOf = (kind) => NAMES[kind] ?? kind.replaceAll("_", " ");

// Counts of storage are bytes, limits of it are GiB.
export function used(kind, count) {
  if (UNITS[kind] === "GiB") return count / GIB;
  return count;
}

function amount(kind, value) {
  if (UNITS[kind] === "GiB") return bytes(value * GIB) || "0 B";
  return [value.toLocaleString("en"), UNITS[kind]].filter(Boolean).join(" ");
}

// Show the limits of an account or a domain.
export function limitsOf(owner) {
  turnTo(owner);
  location.hash = "#/limits";
}

// The limits of one owner are not shown as those of another while these are asked for.
function turnTo(owner) {
  Object.assign(shown, { owner, limits: [] });
  $("#limits").replaceChildren();
}

// Nobody changes the own limits, and a domain administrator not those of the own domain.
const changeable = () => commands().has("updateResourceLimit") && shown.owner !== null
  && (user().admin || shown.owner.domainid !== user().domainid || Boolean(shown.owner.account));

// ---- the table ----------------------------------------------------------------------------------------------

function row({ resourcetypename: kind, resourcetype: type, max, isdefault, used: count }) {
  const has = count === undefined ? null : used(kind, count);
  const bounded = max >= 0;
  const bar = has !== null && bounded ? progress(max ? (100 * has) / max : 100, `${nameOf(kind)} in use`) : null;
  if (bar) bar.classList.add("capacity", ...(has >= max ? ["full"] : has >= 0.8 * max ? ["filling"] : []));
  const most = `${bounded ? amount(kind, max) : "no limit"}${isdefault ? " (default)" : ""}`;
  return element("tr", { className: "row" }, element("td", {}, nameOf(kind)),
    element("td", { className: "wide", data: { label: "Used" } }, has === null ? "" : element("small", {}, amount(kind, has)), bar),
    element("td", { data: { label: "Limit" } }, most), element("td", { className: "actions" }, changeable()
      ? action("limit-edit", "Change…", { id: type, name: nameOf(kind) }, { ariaLabel: `Change limit of ${nameOf(kind)}` }) : null));
}

async function refreshLimits() {
  const { owner } = shown;
  const { domainid, account, label = `account ${user().account}` } = owner ?? {};
  const of = { ...(domainid ? { domainid } : {}), ...(account ? { account } : {}) };
  $("#limits-of").textContent = `of ${label}`;
  $("#limits-own").hidden = !owner;
  const errorLine = $("#limits-error");
  try {
    const { resourcelimit = [] } = await call("listResourceLimits", of);
    if (shown.owner !== owner) return;
    errorLine.hidden = true;
    shown.limits = resourcelimit;
    const focused = document.activeElement?.dataset.action === "limit-edit" ? document.activeElement.dataset.target : null;
    $("#limits").replaceChildren(...resourcelimit.map(row));
    if (focused) $(`#limits [data-target="${CSS.escape(focused)}"]`)?.focus();
  } catch (error) {
    if (!(error instanceof ApiError) || error.passes || error.code === 401) throw error;
    errorLine.textContent = error.message;
    errorLine.hidden = false;
  }
}

actions["limit-edit"] = (type, name) => {
  const { resourcetypename: kind, max, isdefault } = shown.limits.find(({ resourcetype }) => resourcetype === type);
  const dialog = $("#limit-edit");
  dialog.querySelector("h2").replaceChildren(...titled`${name} of ${shown.owner.label}`);
  dialog.querySelector("[name=resourcetype]").value = type;
  dialog.querySelector("[name=max]").value = max < 0 ? "" : max;
  dialog.querySelector(".unit").textContent = UNITS[kind] ?? "";
  dialog.querySelector(`[name=kind][value=${isdefault ? "default" : max < 0 ? "none" : "max"}]`).checked = true;
  dialog.querySelector(".error").hidden = true;
  show(dialog);
};

// `refresh` redraws the page.
export function wireLimits(refresh) {
  addSection({ id: "limits", title: "Limits", command: "listResourceLimits", refresh: refreshLimits,
    tables: ["resource_limits", "accounts", "domains", "vm_instances", "volumes", "templates", "snapshots", "template_store_refs"] });
  $("#limits-own").addEventListener("click", () => {
    turnTo(null);
    refresh();
  });
  $("#limit-edit [name=max]").addEventListener("input", () => { $("#limit-edit [value=max]").checked = true; });
  form($("#limit-edit"), async (data) => {
    const { kind, max, resourcetype } = Object.fromEntries(data);
    const { domainid, account } = shown.owner;
    const value = { max: { max }, none: { max: "-1" }, default: { usedefault: "true" } }[kind];
    await call("updateResourceLimit", { resourcetype, domainid, ...(account ? { account } : {}), ...value });
  });
}
