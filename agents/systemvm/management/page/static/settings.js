// SPDX-License-Identifier: Apache-2.0
// Settings of the cloud, of all zones or of one: searched, changed with the check of each, reset. They take effect at once.

import { call } from "./api.js";
import { element, offer } from "./elements.js";
import { askFields } from "./field_dialog.js";
import { List } from "./list.js";
import { addSection } from "./sections.js";
import { $, ask, titled } from "./ui.js";
import { act, actions } from "./work.js";

const COLUMNS = [
  { label: "Name", sort: "name", className: "wide", cell: (setting) => [element("strong", {}, setting.name), element("small", {}, setting.description)] },
  { label: "Group", sort: "group", cell: ({ group }) => group },
  { label: "Value", cell: (setting, busy) => [element("code", {}, busy ?? shown(setting)),
    changed(setting) ? element("small", {}, `default: ${setting.defaultvalue || "empty"}`) : null] },
  { label: "Takes effect", cell: ({ isdynamic }) => (isdynamic ? "at once" : "after a restart") },
  { label: "Actions", className: "actions", cell: (setting, busy) => [
    offer("updateConfiguration", "setting-edit", "Edit…", setting, { disabled: Boolean(busy) }),
    changed(setting) ? offer("resetConfiguration", "setting-reset", "Reset", setting, { disabled: Boolean(busy) }) : null] },
];

let list;

const changed = ({ value, defaultvalue }) => (value ?? "") !== (defaultvalue ?? "");
const shown = ({ value, units }) => (value ? [value, units].filter(Boolean).join(" ") : "empty");
const place = () => (list.filter("zoneid") ? { zoneid: list.filter("zoneid") } : {});

async function load(parameters) {
  const { configuration = [], count = configuration.length } = await call("listConfigurations", parameters);
  return { rows: configuration.map((setting) => ({ id: setting.name, ...setting })), count };
}

// A secret is not shown, and typed anew.
const HIDDEN = "********";

function inputOf({ type, value, units }) {
  if (value === HIDDEN) return { name: "value", label: "New value", type: "password", autocomplete: "new-password", required: true };
  const label = units ? `Value in ${units}` : "Value";
  if (type === "Boolean") return { name: "value", label, value, choices: [["true", "true"], ["false", "false"]] };
  // not of type number: browsers disagree on what they keep of what is typed there, and the daemon says what is wrong
  return { name: "value", label, value, required: type === "Number", inputMode: type === "Number" ? "numeric" : "text" };
}

Object.assign(actions, {
  "setting-edit"(id) {
    const setting = list.find(id);
    askFields({
      title: setting.name, text: setting.description, verb: "Save", fields: [inputOf(setting)],
      submit: ({ value = "" }) => call("updateConfiguration", { name: id, value, ...place() }),
    });
  },
  async "setting-reset"(id) {
    const { defaultvalue } = list.find(id);
    const text = place().zoneid ? "The zone gets what its file says, or the value of all zones." : `It gets what the daemon's file says, or its default: ${defaultvalue || "empty"}.`;
    if (await ask(titled`Reset ${id}?`, text, "Reset")) await act(id, "Resetting…", () => call("resetConfiguration", { name: id, ...place() }));
  },
});

// The filters have the groups and zones that there are, which the first showing learns.
async function build(refresh) {
  const [{ configuration = [] }, { zone = [] }] = await Promise.all([call("listConfigurations"), call("listZones")]);
  const groups = [...new Set(configuration.map(({ group }) => group))].sort();
  list = new List($("#settings"), {
    label: "settings", columns: COLUMNS, refresh, load, sort: { by: "name", descending: false },
    filters: [{ name: "group", label: "Group", choices: [["", "any"], ...groups.map((group) => [group, group])] },
      { name: "zoneid", label: "Zone", choices: [["", "all"], ...zone.map(({ id, name }) => [id, name])] }],
    empty: "There is no setting.",
  });
}

// `refresh` redraws the page.
export function wireSettings(refresh) {
  addSection({ id: "settings", title: "Settings", command: "listConfigurations", tables: ["configurations"], async refresh() {
    if (!list) await build(refresh);
    await list.refresh();
  } });
}
