// SPDX-License-Identifier: Apache-2.0
// Events: what has happened, filtered by level, type and time.

import { call } from "./api.js";
import { element } from "./elements.js";
import { List, rowsOf } from "./list.js";
import { addSection } from "./sections.js";
import { $, ask, toast } from "./ui.js";

const LEVELS = { ERROR: "bad", WARN: "warn" };
const COLUMNS = [
  { label: "Time", sort: "created", cell: ({ created, createdms }) => element("time", { dateTime: created }, new Date(createdms ?? created).toLocaleString()) },
  { label: "Level", sort: "level", cell: ({ level }) => element("span", { className: `state ${LEVELS[level] ?? ""}` }, level) },
  { label: "Type", sort: "type", cell: ({ type }) => element("code", {}, type) },
  { label: "Description", className: "wide", cell: ({ description }) => description },
  { label: "User", cell: ({ username, account }) => [element("span", {}, username ?? ""), element("small", {}, account ?? "")] },
];

// Buttons for what the user may do with selected events.
function bulk(refresh) {
  const end = (command, verb, text) => async (rows) => {
    if (!(await ask(`${verb} ${rows.length === 1 ? "one event" : `${rows.length} events`}?`, text, verb))) return;
    try {
      await call(command, { ids: rows.map(({ id }) => id).join(",") });
    } catch (error) {
      toast(error.message, true);
    }
    refresh();
  };
  return [
    { label: "Archive", command: "archiveEvents", act: end("archiveEvents", "Archive", "Lists leave them out, until archived ones are asked for.") },
    { label: "Delete", className: "danger", command: "deleteEvents", act: end("deleteEvents", "Delete", "They are deleted permanently.") }];
}

// `refresh` redraws the page.
export function wireEvents(refresh) {
  const list = new List($("#events"), {
    label: "events", columns: COLUMNS, refresh, load: rowsOf("listEvents", "event", { listall: "true" }), sort: { by: "created", descending: true },
    filters: [
      { name: "archived", label: "Show", choices: [["", "present"], ["true", "archived"]] },
      { name: "level", label: "Level", choices: [["", "any"], ["ERROR", "ERROR"], ["WARN", "WARN"], ["INFO", "INFO"]] },
      { name: "type", label: "Type", type: "text" },
      { name: "startdate", label: "From", type: "date" },
      { name: "enddate", label: "Until", type: "date" }],
    bulk: bulk(refresh), empty: "Nothing has happened yet.",
  });
  addSection({ id: "events", title: "Events", command: "listEvents", tables: ["events"], refresh: () => list.refresh() });
}
