// SPDX-License-Identifier: Apache-2.0
// Roles and their rules: which commands of the API an account with a role is allowed to call.

import { allRows, call, commands } from "./api.js";
import { badge, element, offer } from "./elements.js";
import { askFields, opening } from "./field_dialog.js";
import { List, rowsOf } from "./list.js";
import { addSection } from "./sections.js";
import { $, ask, opening as begin, show, titled, toast } from "./ui.js";
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
  return [
    offer("listRolePermissions", "role-rules", "Rules…", role),
    role.isdefault ? null : offer("updateRole", "role-edit", "Edit…", role, off),
    role.isdefault ? null : offer("deleteRole", "role-delete", "Delete", role, { ...off, className: "danger" })];
}

// ---- rules --------------------------------------------------------------------------------------------------

function ruleRow(rule, place, { length }) {
  const named = (command, name, label, disabled = false) => offer(command, name, label, { id: rule.id, name: rule.rule },
    { disabled, ariaLabel: `${label} rule ${rule.rule}` });
  const buttons = shown.role.isdefault ? [] : [
    named("updateRolePermission", "rule-up", "Up", place === 0), named("updateRolePermission", "rule-down", "Down", place === length - 1),
    named("updateRolePermission", "rule-turn", rule.permission === "allow" ? "Deny" : "Allow"),
    named("deleteRolePermission", "rule-delete", "Delete")].filter(Boolean);
  return element("tr", {}, element("td", {}, element("code", {}, rule.rule)), element("td", {}, badge(rule.permission)),
    element("td", {}, rule.description ?? ""), element("td", { className: "actions" }, ...buttons));
}

const rulesOf = (role) => allRows("listRolePermissions", "rolepermission", { roleid: role.id });

function showRules(rules) {
  shown.rules = rules;
  const dialog = $("#rules");
  const focused = document.activeElement?.dataset ?? {};
  const { action: name, target } = focused;
  dialog.querySelector("tbody").replaceChildren(...shown.rules.map(ruleRow));
  if (!name || dialog.contains(document.activeElement)) return;
  // the rule that was moved keeps the keyboard's place; one that was deleted gives it to the form
  const buttons = [...dialog.querySelectorAll(`[data-target="${CSS.escape(target)}"]`)].filter((button) => button.ariaDisabled !== "true");
  (buttons.find((button) => button.dataset.action === name) ?? buttons[0] ?? dialog.querySelector("[name=rule]")).focus();
}

async function openRules(role) {
  const fits = begin();
  const rules = await rulesOf(role);
  if (!fits()) return;
  shown.role = role;
  const dialog = $("#rules");
  dialog.querySelector("h2").replaceChildren(...titled`Rules of ${role.name}`);
  for (const part of dialog.querySelectorAll("fieldset, [value=ok]")) {
    part.hidden = part.disabled = role.isdefault || !commands().has("createRolePermission");
  }
  showRules(rules);
  show(dialog);
}

// What the daemon refuses is shown in the dialog.
async function change(command, parameters) {
  const errorLine = $("#rules .error");
  errorLine.hidden = true;
  try {
    await call(command, parameters);
    showRules(await rulesOf(shown.role));
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
    askFields({
      title: "Edit a role", verb: "Save", fields: fieldsOf({ name, description, ispublic }),
      submit: (values) => call("updateRole", { id, description: "", ispublic: "false", ...values }),
    });
  },
  async "role-delete"(id, name) {
    if (await ask(titled`Delete ${name}?`, "A role that an account has is not deleted.", "Delete")) await act(id, "Deleting…", () => call("deleteRole", { id }));
  },
});

const fieldsOf = ({ name = "", description = "", ispublic = true }, ...more) => [
  { name: "name", label: "Name", required: true, maxLength: 255, value: name },
  { name: "description", label: "Description", maxLength: 255, value: description }, ...more,
  { name: "ispublic", type: "checkbox", label: "Domain administrators see it and can give it", checked: ispublic }];

async function openAdd() {
  const open = opening();
  try {
    const roles = await allRows("listRoles", "role");
    const types = [...new Set(roles.map(({ type }) => type))].map((type) => [`type ${type}`, `No rule, for accounts of type ${type}`]);
    const sources = [...roles.map(({ id, name }) => [`roleid ${id}`, `Rules of ${name}`]), ...types];
    open({
      title: "Add a role", text: "It begins with the rules of another role, or with none: then it permits nothing.", verb: "Add",
      fields: fieldsOf({}, { name: "source", data: { parameter: "roleid type" }, label: "Begins with", required: true, choices: sources }),
      async submit({ source, ispublic = "false", ...values }) {
        const [kind, value] = source.split(" ");
        await call("createRole", { ...values, ispublic, [kind]: value });
        toast(`Role ${values.name} is created.`);
      },
    });
  } catch (error) {
    toast(error.message, true);
  }
}

// `refresh` redraws the page.
export function wireRoles(refresh) {
  list = new List($("#roles"), { label: "roles", columns: COLUMNS, refresh, load: rowsOf("listRoles", "role"), empty: "There is no role." });
  addSection({ id: "roles", title: "Roles", command: "listRoles", tables: ["roles", "role_permissions"], refresh: () => list.refresh() });
  $("#open-role").addEventListener("click", openAdd);
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
