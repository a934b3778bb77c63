// SPDX-License-Identifier: Apache-2.0
// Accounts, for administrators and domain administrators: searched and paged by the daemon, added, disabled, deleted.

import { ApiError, call, job, user } from "./api.js";
import { action, badge, element } from "./elements.js";
import { $, ask, draw, form, options, toast } from "./ui.js";

const PAGE_SIZE = 20;
const TYPES = [["0", "User"], ["2", "Domain administrator"], ["1", "Administrator"]];
const shown = { page: 1, keyword: "" };
let act = async () => {};

// The accounts of the page that is shown; null when the user's role does not permit to list them.
async function listed() {
  const words = shown.keyword ? { keyword: shown.keyword } : {};
  try {
    return await call("listAccounts", { listall: "true", page: String(shown.page), pagesize: String(PAGE_SIZE), ...words });
  } catch (error) {
    if (error instanceof ApiError && error.code === 432) return null;
    throw error;
  }
}

// Returns when the accounts are shown.
export async function refreshAccounts(busy) {
  const answer = await listed();
  $("#accounts-section").hidden = answer === null;
  if (answer === null) return;
  const { account = [], count = 0 } = answer;
  if (!account.length && shown.page > 1) { // the last one of the last page is gone
    shown.page = Math.max(1, shown.page - 1);
    await refreshAccounts(busy);
    return;
  }
  draw($("#accounts"), account, accountRow, shown.keyword ? "No account is named so." : "There is no account yet.", busy);
  const first = (shown.page - 1) * PAGE_SIZE;
  $("#accounts-place").textContent = account.length ? `${first + 1}–${first + account.length} of ${count}` : "";
  $("#accounts-previous").disabled = shown.page === 1;
  $("#accounts-next").disabled = first + account.length >= count;
}

function accountRow(account, busy) {
  const off = { disabled: Boolean(busy) };
  const users = (account.user ?? []).map((one) => one.username).join(", ");
  const own = account.user?.some((one) => one.id === user().id);
  const machines = account.vmtotal === 1 ? "1 VM" : `${account.vmtotal} VMs`;
  return element("article", { className: "row" },
    element("div", {}, element("div", { className: "top" }, element("strong", {}, account.name), badge(account.state, busy)),
      element("small", {}, `${account.domainpath} · ${account.rolename}`)),
    element("div", {}, element("small", {}, `${machines} · users: ${users || "none"}`)),
    element("div", { className: "actions" },
      own ? null : account.state === "enabled" ? action("account-disable", "Disable", account, off) : action("account-enable", "Enable", account, off),
      own ? null : action("account-delete", "Delete", account, { ...off, className: "danger" })));
}

export const accountActions = {
  async "account-disable"(id, name) {
    if (await ask(`Disable ${name}?`, "Its logins, keys and consoles end, and its virtual machines stop.", "Disable")) {
      await act(id, "Disabling…", () => job("disableAccount", { id, lock: "false" }));
    }
  },
  "account-enable": (id) => act(id, "Enabling…", () => call("enableAccount", { id })),
  async "account-delete"(id, name) {
    if (await ask(`Delete ${name}?`, "This deletes its virtual machines, volumes and templates, too.", "Delete")) {
      await act(id, "Deleting…", () => job("deleteAccount", { id }));
    }
  },
};

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

// `work(id, doing, function)` runs an action of an account and shows that it runs; `refresh` redraws the page.
export function wireAccounts(work, refresh) {
  act = work;
  $("#open-account").addEventListener("click", openAdd);
  form($("#account-add"), async (data) => {
    const { account } = await call("createAccount", Object.fromEntries(data));
    toast(`${account.name} is created.`);
  });
  const turn = (pages) => {
    shown.page = Math.max(1, shown.page + pages); // two clicks can come before the first one's answer
    refresh();
  };
  $("#accounts-previous").addEventListener("click", () => turn(-1));
  $("#accounts-next").addEventListener("click", () => turn(1));
  $("#accounts-search").addEventListener("submit", (event) => {
    event.preventDefault();
    shown.keyword = new FormData(event.target).get("keyword").trim();
    shown.page = 1;
    refresh();
  });
}
