// SPDX-License-Identifier: Apache-2.0
// Roles and their rules: which commands of the API an account with a role is allowed to call.

import { allRows, call, commands } from "./api.js";
import { action, badge, element } from "./elements.js";
import { List, rowsOf } from "./list.js";
import { addSection } from "./sections.js";
import { $, ask, form, options, toast } from "./ui.js";
import { act, actions } from "./work.js";

const COLUMNS = [
  { label: "Name", sort: "name", cell: (role) => [element("strong", {}, role.name), element("small", {}, role.description ?? "")] },
  { label: "Type", sort: "type", cell: (role) => role.type },
  { label: "Kind", cell: (role) => element("small", {}, [role.isdefault ? "of every installation" : "made here", role.ispublic ? "" : "not public"]
    .filter(Boolean).join(", ")) },
  { label: "Actions", className: "actions", cell: buttonsOf },
];
const shown = { role: null, rules: [] };
let list;

function buttonsOf(role, busy) {
  const off = { disabled: Boolean(busy) };
  const changes = !role.isdefault && commands().has("updateRole");
  return [
    commands().has("listRolePermissions") ? action("role-rules", "Rules…", role) : null,
    changes ? action("role-edit", "Edit…", role, off) : null,
    changes ? action("role-delete", "Delete", role, { ...off, className: "danger" }) : null];
}

// ---- rules --------------------------------------------------------------------------------------------------

function ruleRow(rule, place, { length }) {
  const named = (name, label, disabled) => action(name, label, { id: rule.id, name: rule.rule }, { disabled, ariaLabel: `${label} rule ${rule.rule}` });
  const buttons = shown.role.isdefault ? [] : [
    named("rule-up", "Up", place === 0), named("rule-down", "Down", place === length - 1),
    named("rule-turn", rule.permission === "allow" ? "Deny" : "Allow", false), named("rule-delete", "Delete", false)];
  return element("tr", {}, element("td", {}, element("code", {}, rule.rule)), element("td", {}, badge(rule.permission)),
    element("td", {}, rule.description ?? ""), element("td", { className: "actions" }, ...buttons));
}

async function showRules() {
  shown.rules = await allRows("listRolePermissions", "rolepermission", { roleid: shown.role.id });
  const dialog = $("#rules");
  const focused = document.activeElement?.dataset ?? {};
  const { action: name, target } = focused;
  dialog.querySelector("tbody").replaceChildren(...shown.rules.map(ruleRow));
  if (!name || dialog.contains(document.activeElement)) return;
  // the rule that was moved keeps the keyboard's place; one that was deleted gives it to the form
  const buttons = [...dialog.querySelectorAll(`[data-target="${CSS.escape(target)}"]`)].filter((button) => !button.disabled);
  (buttons.find((button) => button.dataset.action === name) ?? buttons[0] ?? dialog.querySelector("[name=rule]")).focus();
}

async function openRules(role) {
  shown.role = role;
  const dialog = $("#rules");
  dialog.querySelector("h2").textContent = `Rules of ${role.name}`;
  for (const part of dialog.querySelectorAll("fieldset, [value=ok]")) {
    part.hidden = role.isdefault;
    part.disabled = role.isdefault;
  }
  await showRules();
  dialog.showModal();
}

// What the daemon refuses is shown in the dialog.
async function change(command, parameters) {
  const errorLine = $("#rules .error");
  errorLine.hidden = true;
  try {
    await call(command, parameters);
    await showRules();
  } catch (error) {
    errorLine.textContent = error.message;
    errorLine.hidden = false;
  }
}

function move(id, by) {
  const order = shown.rules.map((rule) => rule.id);
  const place = order.indexOf(id);
  order.splice(place, 1);
  order.splice(place + by, 0, id);
  return change("updateRolePermission", { roleid: shown.role.id, ruleorder: order.join(",") });
}

// ---- roles --------------------------------------------------------------------------------------------------

Object.assign(actions, {
  "role-rules": (id) => openRules(list.find(id)).catch((error) => toast(error.message, true)),
  "rule-up": (id) => move(id, -1),
  "rule-down": (id) => move(id, 1),
  "rule-turn": (id) => {
    const { permission } = shown.rules.find((rule) => rule.id === id);
    return change("updateRolePermission", { roleid: shown.role.id, ruleid: id, permission: permission === "allow" ? "deny" : "allow" });
  },
  "rule-delete": (id) => change("deleteRolePermission", { id }),
  "role-edit"(id) {
    const { name, description = "", ispublic } = list.find(id);
    const dialog = $("#role-edit");
    for (const [key, value] of Object.entries({ id, name, description })) dialog.querySelector(`[name=${key}]`).value = value;
    dialog.querySelector("[name=ispublic]").checked = ispublic;
    dialog.showModal();
  },
  async "role-delete"(id, name) {
    if (await ask(`Delete ${name}?`, "A role that an account has is not deleted.", "Delete")) await act(id, "Deleting…", () => call("deleteRole", { id }));
  },
});

async function openAdd() {
  try {
    const roles = await allRows("listRoles", "role");
    const types = [...new Set(roles.map(({ type }) => type))].map((type) => ({ id: `type ${type}`, label: `No rule, for accounts of type ${type}` }));
    $("#role-add [name=source]").replaceChildren(...options([...roles.map(({ id, name }) => ({ id: `roleid ${id}`, label: `Rules of ${name}` })), ...types]));
    $("#role-add").showModal();
  } catch (error) {
    toast(error.message, true);
  }
}

// `refresh` redraws the page.
export function wireRoles(refresh) {
  list = new List($("#roles"), { label: "roles", columns: COLUMNS, refresh, load: rowsOf("listRoles", "role"), empty: "There is no role." });
  addSection({ id: "roles", title: "Roles", command: "listRoles", tables: ["roles", "role_permissions"], refresh: () => list.refresh() });
  $("#open-role").addEventListener("click", openAdd);
  form($("#role-add"), async (data) => {
    const { source, name, description, ispublic = "false" } = Object.fromEntries(data);
    const [kind, value] = source.split(" ");
    await call("createRole", { name, ispublic, [kind]: value, ...(description ? { description } : {}) });
    toast(`Role ${name} is created.`);
  });
  form($("#role-edit"), (data) => call("updateRole", { ispublic: "false", ...Object.fromEntries(data) }));
  const dialog = $("#rules");
  dialog.addEventListener("submit", async (event) => {
    event.preventDefault();
    const given = [...new FormData(event.target)].filter(([, value]) => value);
    await change("createRolePermission", { roleid: shown.role.id, ...Object.fromEntries(given) });
    if (!dialog.querySelector(".error").hidden) return;
    event.target.reset();
    dialog.querySelector("[name=rule]").focus();
  });
}
