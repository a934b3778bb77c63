// SPDX-License-Identifier: Apache-2.0
// What accounts store, download and use of consoles, with sums, and as a file.

import { allRows } from "./api.js";
import { csv, save } from "./csv.js";
import { bytes, element } from "./elements.js";
import { List, rowsOf } from "./list.js";
import { addSection } from "./sections.js";
import { $, toast } from "./ui.js";

const COLUMNS = [
  { label: "Account", sort: "account", cell: (row) => element("strong", {}, row.account) },
  { label: "Domain", sort: "domain", cell: (row) => row.domain },
  { label: "Stored", sort: "storedbytes", className: "number", cell: (row) => bytes(row.storedbytes) || "0 B" },
  { label: "Served", sort: "servedbytes", className: "number", cell: (row) => bytes(row.servedbytes) || "0 B" },
  { label: "Console minutes", sort: "consoleminutes", className: "number", cell: (row) => row.consoleminutes.toLocaleString("en") },
];
const FIELDS = ["account", "accountid", "domain", "domainid", "storedbytes", "servedbytes", "consoleminutes"];
const ALL = { listall: "true" };
const SUMS_MS = 30000;

let loaded = -SUMS_MS;
let timer = 0;

const all = () => allRows("listAccountUsage", "accountusage", ALL);

export function sums(rows) {
  const sum = (name) => rows.reduce((total, row) => total + row[name], 0);
  return { storedbytes: sum("storedbytes"), servedbytes: sum("servedbytes"), consoleminutes: sum("consoleminutes") };
}

// Sums need all pages, and what they are of changes all the time: they are loaded when the section opens, and then
// rarely.
async function refreshSums(refresh) {
  const wait = loaded + SUMS_MS - performance.now();
  if (wait > 0) {
    timer ||= setTimeout(() => {
      timer = 0;
      refresh();
    }, wait);
    return;
  }
  await showSums();
  loaded = performance.now();
}

async function showSums() {
  const rows = await all();
  const { storedbytes, servedbytes, consoleminutes } = sums(rows);
  const accounts = rows.length === 1 ? "1 account" : `${rows.length.toLocaleString("en")} accounts`;
  $("#usage-sums").textContent = `${accounts}: ${bytes(storedbytes) || "0 B"} stored, ${bytes(servedbytes) || "0 B"} served, `
    + `${consoleminutes.toLocaleString("en")} minutes in consoles`;
}

async function download() {
  try {
    const rows = await all();
    save("usage.csv", csv([FIELDS, ...rows.map((row) => FIELDS.map((name) => row[name]))]));
  } catch (error) {
    toast(error.message, true);
  }
}

// `refresh` redraws the page.
export function wireUsage(refresh) {
  const list = new List($("#usage"), {
    label: "accounts by usage", columns: COLUMNS, refresh, empty: "There is no account.",
    load: async (parameters) => {
      const { rows, count } = await rowsOf("listAccountUsage", "accountusage", ALL)(parameters);
      return { rows: rows.map((row) => ({ ...row, id: row.accountid })), count };
    },
  });
  addSection({ id: "usage", title: "Usage", command: "listAccountUsage", refresh: () => Promise.all([list.refresh(), refreshSums(refresh)]),
    opened: () => { loaded = -SUMS_MS; },
    tables: ["served_bytes", "template_store_refs", "snapshots", "console_recordings", "console_sessions", "accounts"] });
  $("#usage-download").addEventListener("click", download);
}
