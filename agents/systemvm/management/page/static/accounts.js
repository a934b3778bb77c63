// SPDX-License-Identifier: Apache-2.0
// Accounts, for administrators and domain administrators: searched and paged by the daemon, added, disabled, deleted.

import { allRows, call, job, user } from "./api.js";
import { badge, element, offer } from "./elements.js";
import { opening } from "./field_dialog.js";
import { limitsOf } from "./limits.js";
import { List, rowsOf } from "./list.js";
import { addSection } from "./sections.js";
import { $, ask, titled, toast } from "./ui.js";
import { act, actions } from "./work.js";

let list;
const TYPES = [["0", "User"], ["2", "Domain administrator"], ["1", "Administrator"]];
// What a person who logs in is asked for, also of a further user of an account.
export const PERSON = [
  [{ name: "username", label: "User", required: true, maxLength: 255 },
    { name: "password", label: "Password", type: "password", autocomplete: "new-password", required: true }],
  [{ name: "firstname", label: "First name", required: true, maxLength: 255 }, { name: "lastname", label: "Last name", required: true, maxLength: 255 }],
  { name: "email", label: "E-mail", type: "email", required: true, maxLength: 255 }];
const TYPE_OF_ROLE = { 0: "User", 1: "Admin", 2: "DomainAdmin" };
const COLUMNS = [
  { label: "Name", sort: "name", cell: (account) => element("strong", {}, account.name) },
  { label: "Domain", cell: (account) => [element("span", {}, account.domainpath), element("small", {}, account.rolename)] },
  { label: "State", sort: "state", cell: (account, busy) => badge(account.state, busy) },
  { label: "Users", cell: usersOf },
  { label: "Actions", className: "actions", cell: buttonsOf },
];

function usersOf(account) {
  const users = (account.user ?? []).map((one) => one.username).join(", ");
  return [element("span", {}, users || "none"), element("small", {}, account.vmtotal === 1 ? "1 VM" : `${account.vmtotal} VMs`)];
}

function buttonsOf(account, busy) {
  if (account.user?.some((one) => one.id === user().id)) return [];
  const off = { disabled: Boolean(busy) };
  return [
    offer("listResourceLimits", "account-limits", "Limits", account),
    offer("updateAccount", "account-edit", "Edit…", account, off),
    account.state === "enabled" ? offer("disableAccount", "account-disable", "Disable", account, off) : offer("enableAccount", "account-enable", "Enable", account, off),
    offer("deleteAccount", "account-delete", "Delete", account, { ...off, className: "danger" })];
}

Object.assign(actions, {
  async "account-disable"(id, name) {
    if (await ask(titled`Disable ${name}?`, "Its logins, keys and consoles end, and its virtual machines stop.", "Disable")) {
      await act(id, "Disabling…", () => job("disableAccount", { id, lock: "false" }));
    }
  },
  "account-limits"(id, name) {
    const { domainid, domainpath } = list.find(id);
    limitsOf({ domainid, account: name, label: `account ${name} of ${domainpath}` });
  },
  async "account-edit"(id, name) {
    const open = opening();
    const { accounttype, roleid } = list.find(id);
    const roles = (await allRows("listRoles", "role")).filter(({ type }) => type === TYPE_OF_ROLE[accounttype]);
    open({
      title: titled`Edit ${name}`, verb: "Save",
      fields: [{ name: "newname", label: "Name", required: true, maxLength: 255, value: name },
        { name: "roleid", label: "Role", choices: roles.map((role) => [role.id, role.name]), value: roleid }],
      async submit(values) {
        const changes = Object.entries(values).filter(([key, value]) => value !== { newname: name, roleid }[key]);
        if (changes.length) await call("updateAccount", { id, ...Object.fromEntries(changes) });
      },
    });
  },
  "account-enable": (id) => act(id, "Enabling…", () => call("enableAccount", { id })),
  async "account-delete"(id, name) {
    if (await ask(titled`Delete ${name}?`, "This deletes its virtual machines, volumes and templates, too.", "Delete")) {
      await act(id, "Deleting…", () => job("deleteAccount", { id }));
    }
  },
});

async function openAdd() {
  const open = opening();
  try {
    const domains = await allRows("listDomains", "domain", { listall: "true", sortby: "path" });
    open({
      title: "Add an account", text: "It has one user, who logs in with this name and password.", verb: "Add",
      fields: [...PERSON,
        [{ name: "domainid", label: "Domain", required: true, choices: domains.map(({ id, path }) => [id, path]) },
          { name: "accounttype", label: "Role", required: true, choices: TYPES.filter(([id]) => user().admin || id !== "1") }]],
      async submit(values) {
        const { account } = await call("createAccount", values);
        toast(`${account.name} is created.`);
      },
    });
  } catch (error) {
    toast(error.message, true);
  }
}

// `refresh` redraws the page.
export function wireAccounts(refresh) {
  list = new List($("#accounts"), {
    label: "accounts", columns: COLUMNS, refresh,
    load: rowsOf("listAccounts", "account", { listall: "true" }),
    filters: [{ name: "state", label: "State", choices: [["", "any"], ["enabled", "enabled"], ["disabled", "disabled"], ["locked", "locked"]] }],
    empty: "There is no account yet.",
  });
  addSection({ id: "accounts", title: "Accounts", command: "createAccount", tables: ["accounts", "users", "domains", "roles", "vm_instances"],
    refresh: () => list.refresh() });
  $("#open-account").addEventListener("click", openAdd);
}
