// SPDX-License-Identifier: Apache-2.0
// Users, for administrators and domain administrators: an account can have several, who share what it owns.

import { PERSON } from "./accounts.js";
import { allRows, call, job, user } from "./api.js";
import { badge, element, offer } from "./elements.js";
import { askFields, opening } from "./field_dialog.js";
import { List, rowsOf } from "./list.js";
import { addSection } from "./sections.js";
import { $, ask, titled, toast } from "./ui.js";
import { act, actions } from "./work.js";

const COLUMNS = [
  { label: "Name", sort: "username", cell: (one) => [element("strong", {}, one.name), element("small", {}, `${one.firstname} ${one.lastname} · ${one.email}`)] },
  { label: "Account", sort: "account", cell: (one) => [element("span", {}, one.account), element("small", {}, one.domain)] },
  { label: "State", sort: "state", cell: (one, busy) => badge(one.state, busy) },
  { label: "Second factor", cell: (one) => (one.is2faenabled ? "set up" : one.is2famandated ? "required" : "none") },
  { label: "Actions", className: "actions", cell: buttonsOf },
];

let list;

// One's own password and second factor are changed at the top of the page.
function buttonsOf(one, busy) {
  if (one.id === user().id) return [];
  const off = { disabled: Boolean(busy) };
  return [
    offer("updateUser", "user-edit", "Edit…", one, off),
    offer("updateUser", "user-password", "Password…", one, off),
    one.is2faenabled ? offer("setupUserTwoFactorAuthentication", "user-factor", "Second factor off", one, off) : null,
    one.state === "enabled" ? offer("disableUser", "user-disable", "Disable", one, off) : offer("enableUser", "user-enable", "Enable", one, off),
    offer("deleteUser", "user-delete", "Delete", one, { ...off, className: "danger" })];
}

Object.assign(actions, {
  "user-edit"(id, name) {
    const { firstname, lastname, email } = list.find(id);
    const present = { firstname, lastname, email };
    const fields = PERSON.flat().filter((field) => field.name in present).map((field) => ({ ...field, value: present[field.name] }));
    askFields({ title: titled`Edit ${name}`, verb: "Save", fields, submit: (values) => call("updateUser", { id, ...values }) });
  },
  "user-password": (id, name) => askFields({
    title: titled`A new password for ${name}`, text: "Logins of this user end.", verb: "Set",
    fields: [{ name: "password", label: "New password", type: "password", autocomplete: "new-password", required: true }],
    submit: (values) => call("updateUser", { id, ...values }),
  }),
  async "user-factor"(id, name) {
    if (await ask(titled`Disable the second factor of ${name}?`, "The user logs in with the password only.", "Disable")) {
      await act(id, "Disabling…", () => call("setupUserTwoFactorAuthentication", { userid: id, enable: "false" }));
    }
  },
  async "user-disable"(id, name) {
    if (await ask(titled`Disable ${name}?`, "The logins, keys and consoles of this user end.", "Disable")) {
      await act(id, "Disabling…", () => job("disableUser", { id }));
    }
  },
  "user-enable": (id) => act(id, "Enabling…", () => call("enableUser", { id })),
  async "user-delete"(id, name) {
    if (await ask(titled`Delete ${name}?`, "The account and what it owns stay.", "Delete")) await act(id, "Deleting…", () => call("deleteUser", { id }));
  },
});

async function openAdd() {
  const open = opening();
  try {
    const accounts = await allRows("listAccounts", "account", { listall: "true", sortby: "name", details: "min" });
    open({
      title: "Add a user", text: "The user shares what the account owns.", verb: "Add",
      fields: [...PERSON, { name: "accountid", data: { parameter: "account domainid" }, label: "Account", required: true, choices: accounts.map((one) => [one.id, `${one.name}, ${one.domainpath}`]) }],
      async submit({ accountid, ...values }) {
        const { name, domainid } = accounts.find(({ id }) => id === accountid);
        await call("createUser", { ...values, account: name, domainid });
        toast(`${values.username} is created.`);
      },
    });
  } catch (error) {
    toast(error.message, true);
  }
}

// `refresh` redraws the page.
export function wireUsers(refresh) {
  list = new List($("#users"), {
    label: "users", columns: COLUMNS, refresh, empty: "There is no user.",
    load: async (parameters) => {
      const { rows, count } = await rowsOf("listUsers", "user", { listall: "true" })(parameters);
      return { rows: rows.map((one) => ({ ...one, name: one.username })), count };
    },
  });
  addSection({ id: "users", title: "Users", command: "createUser", tables: ["users", "accounts", "domains"], refresh: () => list.refresh() });
  $("#open-user").addEventListener("click", openAdd);
}
