// SPDX-License-Identifier: Apache-2.0
// Accounts, for administrators and domain administrators: searched and paged by the daemon, added, disabled, deleted.

import { call, job, user } from "./api.js";
import { badge, element, offer } from "./elements.js";
import { limitsOf } from "./limits.js";
import { List, rowsOf } from "./list.js";
import { addSection } from "./sections.js";
import { $, ask, form, options, toast } from "./ui.js";
import { act, actions } from "./work.js";

let list;
const TYPES = [["0", "User"], ["2", "Domain administrator"], ["1", "Administrator"]];
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
    account.state === "enabled" ? offer("disableAccount", "account-disable", "Disable", account, off) : offer("enableAccount", "account-enable", "Enable", account, off),
    offer("deleteAccount", "account-delete", "Delete", account, { ...off, className: "danger" })];
}

Object.assign(actions, {
  async "account-disable"(id, name) {
    if (await ask(`Disable ${name}?`, "Its logins, keys and consoles end, and its virtual machines stop.", "Disable")) {
      await act(id, "Disabling…", () => job("disableAccount", { id, lock: "false" }));
    }
  },
  "account-limits"(id, name) {
    const { domainid, domainpath } = list.find(id);
    limitsOf({ domainid, account: name, label: `account ${name} of ${domainpath}` });
  },
  "account-enable": (id) => act(id, "Enabling…", () => call("enableAccount", { id })),
  async "account-delete"(id, name) {
    if (await ask(`Delete ${name}?`, "This deletes its virtual machines, volumes and templates, too.", "Delete")) {
      await act(id, "Deleting…", () => job("deleteAccount", { id }));
    }
  },
});

async function openAdd() {
  try {
    const { domain = [] } = await call("listDomains", { listall: "true" });
    $("#account-add [name=domainid]").replaceChildren(...options(domain.map(({ id, path }) => ({ id, label: path }))));
    const types = TYPES.filter(([id]) => user().admin || id !== "1").map(([id, label]) => ({ id, label }));
    $("#account-add [name=accounttype]").replaceChildren(...options(types));
    $("#account-add").showModal();
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
  form($("#account-add"), async (data) => {
    const { account } = await call("createAccount", Object.fromEntries(data));
    toast(`${account.name} is created.`);
  });
}
