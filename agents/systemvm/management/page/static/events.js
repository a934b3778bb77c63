// SPDX-License-Identifier: Apache-2.0
// Events: what has happened, filtered by level, type and time.

import { element } from "./elements.js";
import { List, rowsOf } from "./list.js";
import { addSection } from "./sections.js";
import { $ } from "./ui.js";

const LEVELS = { ERROR: "bad", WARN: "warn" };
const COLUMNS = [
  { label: "Time", sort: "created", cell: ({ created, createdms }) => element("time", { dateTime: created }, new Date(createdms ?? created).toLocaleString()) },
  { label: "Level", sort: "level", cell: ({ level }) => element("span", { className: `state ${LEVELS[level] ?? ""}` }, level) },
  { label: "Type", sort: "type", cell: ({ type }) => element("code", {}, type) },
  { label: "Description", className: "wide", cell: ({ description }) => description },
  { label: "User", cell: ({ username, account }) => [element("span", {}, username ?? ""), element("small", {}, account ?? "")] },
];

// `refresh` redraws the page.
export function wireEvents(refresh) {
  const list = new List($("#events"), {
    label: "events", columns: COLUMNS, refresh, load: rowsOf("listEvents", "event", { listall: "true" }), sort: { by: "created", descending: true },
    filters: [
      { name: "level", label: "Level", choices: [["", "any"], ["ERROR", "ERROR"], ["WARN", "WARN"], ["INFO", "INFO"]] },
      { name: "type", label: "Type", type: "text" },
      { name: "startdate", label: "From", type: "date" },
      { name: "enddate", label: "Until", type: "date" }],
    empty: "Nothing has happened yet.",
  });
  addSection({ id: "events", title: "Events", command: "listEvents", tables: ["events"], refresh: () => list.refresh() });
}
