// SPDX-License-Identifier: Apache-2.0
// Storage pools, which have the disks of machines, for root administrators.

import { call, job } from "./api.js";
import { nameOf } from "./details.js";
import { badge, bytes, element, offer, progress } from "./elements.js";
import { askFields, opening } from "./field_dialog.js";
import { List, rowsOf } from "./list.js";
import { addSection } from "./sections.js";
import { $, ask, onClick, titled, toast } from "./ui.js";
import { act, actions } from "./work.js";
import { ZONE_COLUMN, ZONE_FILTER, zoneField } from "./zone_choice.js";

const COLUMNS = [
  { label: "Name", sort: "name", cell: (pool) => [nameOf("PRIMARY_STORAGE", pool), element("small", {}, pool.tags ?? "")] },
  { label: "Place", sort: "type", cell: ({ type, ipaddress, path, scope }) => [element("span", {}, type),
    element("small", {}, `${[ipaddress, path].filter(Boolean).join(":")} · ${scope.toLowerCase()}`)] },
  ZONE_COLUMN,
  { label: "Used", className: "wide", cell: usedOf },
  { label: "State", sort: "state", cell: (pool, busy) => badge(pool.state, busy) },
  { label: "Actions", className: "actions", cell: buttonsOf },
];

let list;

function usedOf({ name, disksizetotal: total, disksizeused: used, disksizeallocated: allocated }) {
  const promised = `${bytes(allocated) || "0 B"} in volumes`;
  if (!total) return element("small", {}, promised);
  return [progress((100 * (used ?? 0)) / total, `Used space of ${name}`), element("small", {}, `${bytes(used) || "0 B"} of ${bytes(total)} · ${promised}`)];
}

function buttonsOf(pool, busy) {
  const off = { disabled: Boolean(busy) };
  const enabled = pool.state === "Up" || pool.state === "Down";
  const maintained = ["PrepareForMaintenance", "Maintenance", "ErrorInMaintenance"].includes(pool.state);
  return [
    maintained ? offer("cancelStorageMaintenance", "pool-cancel", "End maintenance", pool, off) : offer("enableStorageMaintenance", "pool-maintain", "Maintenance…", pool, off),
    maintained ? null : offer("updateStoragePool", enabled ? "pool-disable" : "pool-enable", enabled ? "Disable" : "Enable", pool, off),
    offer("updateStoragePool", "pool-edit", "Edit…", pool, off),
    offer("deleteStoragePool", "pool-delete", "Delete", pool, { ...off, className: "danger" })];
}

// Ask for another pool of a zone than `present`; `submit` gets {storageid}.
export async function askPool({ title, text, zoneid, present, submit }) {
  const open = opening();
  const { storagepool = [] } = await call("listStoragePools", { zoneid });
  const others = storagepool.filter(({ id }) => id !== present);
  if (!others.length) {
    toast("There is no other storage pool that it can be moved to", true);
    return;
  }
  open({ title, text, verb: "Move", submit,
    fields: [{ name: "storageid", label: "Storage pool", required: true, choices: others.map((pool) => [pool.id, pool.name]) }] });
}

Object.assign(actions, {
  async "pool-maintain"(id, name) {
    if (await ask(titled`Put ${name} into maintenance?`, "Machines with disks in it stop, and start again when the maintenance ends.", "Begin")) {
      await act(id, "Stopping machines…", () => job("enableStorageMaintenance", { id }));
    }
  },
  "pool-cancel": (id) => act(id, "Starting machines…", () => job("cancelStorageMaintenance", { id })),
  "pool-disable": (id) => act(id, "Disabling…", () => call("updateStoragePool", { id, enabled: "false" })),
  "pool-enable": (id) => act(id, "Enabling…", () => call("updateStoragePool", { id, enabled: "true" })),
  "pool-edit"(id, name) {
    askFields({
      title: titled`Edit ${name}`, verb: "Save",
      fields: [{ name: "name", label: "Name", required: true, maxLength: 255, value: name },
        { name: "tags", label: "Tags that offerings ask for, with commas between", value: list.find(id).tags }],
      submit: (values) => call("updateStoragePool", { id, tags: "", ...values }),
    });
  },
  async "pool-delete"(id, name) {
    if (await ask(titled`Delete ${name}?`, "A pool with volumes is not deleted. Its files stay where they are.", "Delete")) {
      await act(id, "Deleting…", () => call("deleteStoragePool", { id }));
    }
  },
});

function openAdd() {
  askFields({
    title: "Add a storage pool", text: "All hosts of the zone use it. NFS is mounted on each of them.", verb: "Add",
    fields: [zoneField(), { name: "name", label: "Name", required: true, maxLength: 255 },
      { name: "url", label: "URL", required: true, placeholder: "nfs://10.12.0.2/pool, or SharedMountPoint:///mnt/pool" },
      { name: "tags", label: "Tags that offerings ask for, with commas between" }],
    async submit(values) {
      await call("createStoragePool", values);
      toast(`${values.name} is added.`);
    },
  });
}

// `refresh` redraws the page.
export function wirePools(refresh) {
  list = new List($("#pools"), {
    label: "storage pools", columns: COLUMNS, refresh, load: rowsOf("listStoragePools", "storagepool"), filters: [ZONE_FILTER], empty: "There is no storage pool.",
  });
  addSection({ id: "pools", title: "Storage pools", command: "listStoragePools", tables: ["storage_pools", "volumes", "hosts"],
    refresh: () => list.refresh() });
  onClick("#open-pool", openAdd);
}
