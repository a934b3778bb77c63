// SPDX-License-Identifier: Apache-2.0
// Offerings: the sizes of virtual machines and of volumes, which root administrators change, and what networks are made by.

import { call } from "./api.js";
import { nameOf } from "./details.js";
import { bytes, element, offer } from "./elements.js";
import { askFields } from "./field_dialog.js";
import { List, rowsOf } from "./list.js";
import { addSection } from "./sections.js";
import { $, ask, onClick, titled, toast } from "./ui.js";
import { act, actions } from "./work.js";

const MIB = 2 ** 20;
// By the value of the filter: its commands, the key of its rows, the type of its annotations, and the key that the size
// is sorted by.
const KINDS = {
  machines: { list: "listServiceOfferings", object: "serviceoffering", create: "createServiceOffering", update: "updateServiceOffering",
    remove: "deleteServiceOffering", entity: "SERVICE_OFFERING", by: "memory", after: "Virtual machines keep their size.",
    size: ({ cpunumber, memory }) => [element("span", {}, `${cpunumber} vCPU`), element("small", {}, bytes(memory * MIB))] },
  volumes: { list: "listDiskOfferings", object: "diskoffering", create: "createDiskOffering", update: "updateDiskOffering",
    remove: "deleteDiskOffering", entity: "DISK_OFFERING", by: "disksize", after: "Volumes keep their size.",
    size: ({ iscustomized, disksize }) => (iscustomized ? "chosen by its user" : `${disksize} GiB`) },
  networks: { list: "listNetworkOfferings", object: "networkoffering", by: "guestiptype", size: ({ guestiptype }) => guestiptype },
};
const COLUMNS = [
  { label: "Name", sort: "name", cell: (each) => [nameOf(KINDS[each.kind].entity, each),
    element("small", {}, each.displaytext === each.name ? "" : each.displaytext)] },
  { label: "Size or type", sort: "size", cell: (each) => KINDS[each.kind].size(each) },
  { label: "Place", cell: placeOf },
  { label: "Actions", className: "actions", cell: buttonsOf },
];
const TEXTS = [{ name: "name", label: "Name", required: true, maxLength: 255 },
  { name: "displaytext", label: "Description", maxLength: 255, placeholder: "of its size (optional)" }];
const DISKS = [
  [{ name: "storagetype", label: "Disks are", choices: [["local", "on the host"], ["shared", "in a storage pool"]] },
    { name: "provisioningtype", label: "Space", choices: [["thin", "thin (linked)"], ["sparse", "sparse (grows)"], ["fat", "fat (all at once)"]] }],
  { name: "tags", label: "Only in storage pools with these tags, with commas between", placeholder: "(optional)" }];

let list;

// CloudStack has two names for the tags of storage pools.
function placeOf({ storagetype, provisioningtype, storagetags, tags = storagetags, zone }) {
  return zone ?? [element("span", {}, `${storagetype}, ${provisioningtype}`), tags ? element("small", {}, `pools with ${tags}`) : null];
}

function buttonsOf(each, busy) {
  const { update, remove } = KINDS[each.kind];
  const off = { disabled: Boolean(busy) };
  return [offer(update, "offering-edit", "Edit…", each, off), offer(remove, "offering-delete", "Delete", each, { ...off, className: "danger" })];
}

async function load({ kind, sortby, ...parameters }) {
  const { list: command, object, by } = KINDS[kind];
  const order = sortby ? { sortby: sortby === "size" ? by : sortby } : {};
  const { rows, count } = await rowsOf(command, object)({ ...parameters, ...order });
  return { rows: rows.map((row) => ({ ...row, kind })), count };
}

Object.assign(actions, {
  "offering-edit"(id, name) {
    const { kind, displaytext } = list.find(id);
    askFields({
      title: titled`Edit ${name}`, text: "A size is not changed: add another offering for that.", verb: "Save",
      fields: [{ ...TEXTS[0], value: name }, { ...TEXTS[1], required: true, value: displaytext }],
      submit: (values) => call(KINDS[kind].update, { id, ...values }),
    });
  },
  async "offering-delete"(id, name) {
    const { remove, after } = KINDS[list.find(id).kind];
    if (await ask(titled`Delete ${name}?`, after, "Delete")) await act(id, "Deleting…", () => call(remove, { id }));
  },
});

function openAdd(title, kind, size, complete = (values) => values) {
  askFields({
    title, verb: "Add", fields: [...TEXTS, size, ...DISKS],
    async submit(values) {
      await call(KINDS[kind].create, complete(values));
      toast(`${values.name} is added.`);
    },
  });
}

const openMachines = () => openAdd("Add an offering of virtual machines", "machines",
  [{ name: "cpunumber", label: "Virtual CPUs", type: "number", required: true, min: "1", max: "64", value: "1" },
    { name: "memory", label: "Memory in MiB", type: "number", required: true, min: "32", value: "512" }]);

const openVolumes = () => openAdd("Add an offering of volumes", "volumes",
  { name: "disksize", label: "Size in GiB", type: "number", min: "1", placeholder: "chosen by who creates the volume (optional)" },
  (values) => (values.disksize ? values : { ...values, customized: "true" }));

// `refresh` redraws the page.
export function wireOfferings(refresh) {
  list = new List($("#offerings"), {
    label: "offerings", columns: COLUMNS, refresh, load, empty: "There is no offering.",
    filters: [{ name: "kind", label: "Kind", choices: [["machines", "virtual machines"], ["volumes", "volumes"], ["networks", "networks"]] }],
  });
  addSection({ id: "offerings", title: "Offerings", command: "listServiceOfferings", refresh: () => list.refresh(),
    tables: ["service_offerings", "disk_offerings", "zones", "physical_networks"] });
  onClick("#open-machine-offering", openMachines);
  onClick("#open-volume-offering", openVolumes);
}
