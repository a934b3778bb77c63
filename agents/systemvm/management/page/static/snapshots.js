// SPDX-License-Identifier: Apache-2.0
// Snapshots of volumes: reverted to, made into volumes and templates, downloaded, copied to other zones, deleted.

import { call, commands, job } from "./api.js";
import { copyToZone } from "./copies.js";
import { action, badge, bytes, element, problem } from "./elements.js";
import { nameOf, tagsOf } from "./details.js";
import { showLink } from "./extract.js";
import { askFields } from "./field_dialog.js";
import { List, rowsOf } from "./list.js";
import { addSection } from "./sections.js";
import { byTag, TAG_FILTER } from "./tag_filter.js";
import { $, ask, titled, toast } from "./ui.js";
import { act, actions } from "./work.js";
import { ZONE_COLUMN, ZONE_FILTER } from "./zone_choice.js";

const COLUMNS = [
  { label: "Name", sort: "name", cell: (snapshot) => [nameOf("SNAPSHOT", snapshot), element("small", {}, snapshot.account), tagsOf(snapshot)] },
  { label: "Volume", cell: ({ volumename, snapshottype }) => [element("span", {}, volumename), element("small", {}, snapshottype.toLowerCase())] },
  ZONE_COLUMN,
  { label: "Size", cell: ({ physicalsize }) => bytes(physicalsize) },
  { label: "State", sort: "state", cell: (snapshot, busy) => [badge(snapshot.state, busy), problem(snapshot, true)] },
  { label: "Taken", sort: "created", cell: ({ created }) => new Date(created).toLocaleString() },
  { label: "Actions", className: "actions", cell: buttons },
];

let list;

function buttons(snapshot, busy) {
  const may = commands();
  const off = { disabled: Boolean(busy) };
  const complete = snapshot.state === "BackedUp";
  const offered = [
    [complete && snapshot.revertable, "revertSnapshot", "snapshot-revert", "Revert"],
    [complete, "createVolume", "snapshot-volume", "Make volume…"],
    [complete, "createTemplate", "snapshot-template", "Make template…"],
    [complete, "extractSnapshot", "snapshot-extract", "Download…"],
    [complete, "copySnapshot", "snapshot-copy", "Copy…"],
    [complete || snapshot.state === "Error", "deleteSnapshot", "snapshot-delete", "Delete"],
  ];
  return offered.filter(([fits, command]) => fits && may.has(command))
    .map(([, , name, label]) => action(name, label, snapshot, label === "Delete" ? { ...off, className: "danger" } : off));
}

// Ask for a name and start the command that makes something of a snapshot.
function make(title, text, verb, command, parameters) {
  askFields({
    title, text, verb, fields: [{ name: "name", label: "Name", required: true, maxLength: 255 }],
    async submit(values) {
      await call(command, { ...parameters, ...values });
      toast(`${values.name} is being made.`);
    },
  });
}

Object.assign(actions, {
  async "snapshot-revert"(id, name) {
    const { volumename } = list.find(id);
    const text = `What was written to ${volumename} since is lost. Its virtual machine must be stopped.`;
    if (await ask(titled`Revert ${volumename} to ${name}?`, text, "Revert")) await act(id, "Reverting…", () => job("revertSnapshot", { id }));
  },
  "snapshot-volume": (id, name) => make(titled`Make a volume of ${name}`, "It has the content of the snapshot.", "Make volume", "createVolume",
    { snapshotid: id, zoneid: list.find(id).zoneid }),
  "snapshot-template": (id, name) => make(titled`Make a template of ${name}`, "Virtual machines can be deployed from it.", "Make template", "createTemplate",
    { snapshotid: id }),
  "snapshot-extract": (id) => act(id, "Creating a link…", () => showLink(list.find(id), "extractSnapshot", "snapshot")),
  "snapshot-copy": (id) => copyToZone(list.find(id), "copySnapshot"),
  async "snapshot-delete"(id, name) {
    if (await ask(titled`Delete ${name}?`, "Snapshots that are increments on it stay complete.", "Delete")) {
      await act(id, "Deleting…", () => job("deleteSnapshot", { id }));
    }
  },
});

// `refresh` redraws the page.
export function wireSnapshots(refresh) {
  const types = ["MANUAL", "HOURLY", "DAILY", "WEEKLY", "MONTHLY"].map((type) => [type, type.toLowerCase()]);
  list = new List($("#snapshots"), {
    label: "snapshots", columns: COLUMNS, refresh, load: byTag(rowsOf("listSnapshots", "snapshot", { listall: "true" })),
    sort: { by: "created", descending: true },
    filters: [{ name: "snapshottype", label: "Taken", choices: [["", "any way"], ...types] },
      { name: "state", label: "State", choices: [["", "any"], ["BackedUp", "BackedUp"], ["BackingUp", "BackingUp"], ["Error", "Error"]] }, ZONE_FILTER, TAG_FILTER],
    empty: "There is no snapshot yet. Take one of a volume.",
  });
  addSection({ id: "snapshots", title: "Snapshots", command: "listSnapshots", tables: ["snapshots", "volumes", "snapshot_images", "resource_tags"],
    refresh: () => list.refresh() });
}
