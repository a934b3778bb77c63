// SPDX-License-Identifier: Apache-2.0
// Volumes: created, attached to VMs, enlarged, and what snapshots and files are made of them. By the state of each.

import { call, commands, followJob, job } from "./api.js";
import { nameOf, tagsOf } from "./details.js";
import { action, badge, bytes, element } from "./elements.js";
import { showLink } from "./extract.js";
import { askFields, opening } from "./field_dialog.js";
import { List, rowsOf } from "./list.js";
import { askPool } from "./pools.js";
import { addSection } from "./sections.js";
import { showPolicies } from "./snapshot_policies.js";
import { byTag, TAG_FILTER } from "./tag_filter.js";
import { $, ask, onClick, titled, toast } from "./ui.js";
import { act, actions } from "./work.js";
import { ZONE_COLUMN, ZONE_FILTER, zoneField } from "./zone_choice.js";

const GIB = 2 ** 30;
const STATES = ["Allocated", "Ready", "Uploaded", "NotUploaded", "UploadError"].map((state) => [state, state]);
const FORMATS = ["QCOW2", "RAW", "VHD", "VHDX", "VMDK", "OVA"];
const COLUMNS = [
  { label: "Name", sort: "name", cell: (volume) => [nameOf("VOLUME", volume), element("small", {}, volume.account), tagsOf(volume)] },
  { label: "Size", sort: "size", cell: ({ size }) => bytes(size) },
  { label: "Type", sort: "type", cell: ({ type }) => (type === "ROOT" ? "root disk" : "data disk") },
  { label: "State", sort: "state", cell: (volume, busy) => badge(volume.state, busy) },
  ZONE_COLUMN,
  { label: "Machine", cell: ({ vmdisplayname, storage }) => [element("span", {}, vmdisplayname ?? "none"), storage ? element("small", {}, storage) : null] },
  { label: "Actions", className: "actions", cell: buttons },
];

let list;

// What a volume's state permits and the user may do.
function buttons(volume, busy) {
  const may = commands();
  const off = { disabled: Boolean(busy) };
  const data = volume.type !== "ROOT";
  const attached = Boolean(volume.virtualmachineid);
  const ready = volume.state === "Ready";
  const offered = [
    [data && !attached && ["Ready", "Allocated", "Uploaded"].includes(volume.state), "attachVolume", "volume-attach", "Attach…"],
    [data && attached, "detachVolume", "volume-detach", "Detach"],
    [ready || volume.state === "Allocated", "resizeVolume", "volume-resize", "Resize…"],
    [ready && !attached, "migrateVolume", "volume-migrate", "Move…"],
    [ready, "createSnapshot", "volume-snapshot", "Snapshot…"],
    [ready, "listSnapshotPolicies", "volume-policies", "Policies…"],
    [ready && (!attached || volume.vmstate === "Stopped"), "extractVolume", "volume-extract", "Download…"],
    [data && !attached && volume.state !== "Creating", "deleteVolume", "volume-delete", "Delete"],
  ];
  return offered.filter(([fits, command]) => fits && may.has(command))
    .map(([, , name, label]) => action(name, label, volume, label === "Delete" ? { ...off, className: "danger" } : off));
}

async function offerings() {
  const { diskoffering = [] } = await call("listDiskOfferings");
  return diskoffering.map(({ id, displaytext, name }) => [id, displaytext ?? name]);
}

async function openCreate() {
  const open = opening();
  try {
    const zone = zoneField();
    const offered = await offerings();
    open({
      title: "Create a volume", text: "An empty data disk, which can be attached to a virtual machine.", verb: "Create",
      fields: [
        zone,
        { name: "name", label: "Name", required: true, maxLength: 255 },
        { name: "diskofferingid", label: "Offering", choices: [["", "by size"], ...offered] },
        { name: "size", label: "Size in GiB", type: "number", min: "1", step: "1", value: "1" }],
      async submit({ size, ...values }) {
        const chosen = offered.find(([id]) => id === values.diskofferingid);
        await job("createVolume", { ...values, ...(chosen || !size ? {} : { size }) });
        toast(`${values.name} is created.`);
      },
    });
  } catch (error) {
    toast(error.message, true);
  }
}

// A data volume with the content of a file, which a secondary storage VM downloads.
function openFromUrl() {
  askFields({
    title: "Create a volume from a URL", text: "A data disk with the content of a file. The first virtual machine that it is attached to gets it.", verb: "Create",
    fields: [
      zoneField(),
      { name: "name", label: "Name", required: true, maxLength: 255 },
      { name: "url", label: "URL", type: "url", required: true, placeholder: "https://…/disk.qcow2" },
      [{ name: "format", label: "Format", choices: FORMATS.map((format) => [format, format]) },
        { name: "checksum", label: "Checksum", placeholder: "{SHA-256}… (optional)" }]],
    async submit(values) {
      await call("uploadVolume", values);
      toast(`${values.name} is being downloaded.`);
    },
  });
}

Object.assign(actions, {
  "volume-migrate"(id, name) {
    const { zoneid, storageid } = list.find(id);
    return askPool({
      title: titled`Move ${name} to another storage pool`, zoneid, present: storageid,
      async submit(values) {
        const { jobid } = await call("migrateVolume", { volumeid: id, ...values }); // what refuses it at once is shown in the dialog
        act(id, "Moving…", () => followJob(jobid));
      },
    });
  },
  async "volume-attach"(id, name) {
    const open = opening();
    const { zoneid } = list.find(id);
    const { virtualmachine = [] } = await call("listVirtualMachines",
      { zoneid, listall: "true", state: "Present", hypervisor: "KVM", page: "1", pagesize: "500", sortby: "name" });
    open({
      title: titled`Attach ${name}`, verb: "Attach",
      fields: [{ name: "virtualmachineid", label: "Virtual machine", required: true,
        choices: virtualmachine.map((vm) => [vm.id, vm.displayname ?? vm.name]) }],
      submit: (values) => job("attachVolume", { id, ...values }),
    });
  },
  async "volume-detach"(id, name) {
    const text = "Unmount it in a virtual machine that runs first: what was not written is lost.";
    if (await ask(titled`Detach ${name}?`, text, "Detach")) await act(id, "Detaching…", () => job("detachVolume", { id }));
  },
  "volume-resize"(id, name) {
    const present = Math.ceil((list.find(id)?.size ?? GIB) / GIB);
    askFields({
      title: titled`Resize ${name}`, text: "A volume can only become larger. A virtual machine that runs sees its new size at once.", verb: "Resize",
      fields: [{ name: "size", label: "Size in GiB", type: "number", required: true, min: String(present), step: "1", value: String(present) }],
      submit: (values) => job("resizeVolume", { id, ...values }),
    });
  },
  "volume-snapshot"(id, name) {
    askFields({
      title: titled`Take a snapshot of ${name}`, verb: "Take snapshot", text: "It is copied to secondary storage. Its state is shown in Snapshots.",
      fields: [{ name: "name", label: "Name", maxLength: 255 }],
      async submit(values) {
        await call("createSnapshot", { volumeid: id, ...values });
        toast(`A snapshot of ${name} is being taken.`);
      },
    });
  },
  "volume-policies": (id, name) => showPolicies(id, name),
  "volume-extract": (id) => act(id, "Creating a link…", () => showLink(list.find(id), "extractVolume", "volume")),
  async "volume-delete"(id, name) {
    if (await ask(titled`Delete ${name}?`, "Its content is deleted permanently. Its snapshots stay.", "Delete")) {
      await act(id, "Deleting…", () => call("deleteVolume", { id }));
    }
  },
});

// `refresh` redraws the page.
export function wireVolumes(refresh) {
  list = new List($("#volumes"), {
    label: "volumes", columns: COLUMNS, refresh, load: byTag(rowsOf("listVolumes", "volume", { listall: "true" })),
    filters: [{ name: "type", label: "Type", choices: [["", "any"], ["ROOT", "root disks"], ["DATADISK", "data disks"]] },
      { name: "state", label: "State", choices: [["", "any"], ...STATES] }, ZONE_FILTER, TAG_FILTER],
    empty: "There is no volume yet. A virtual machine has a root disk; create a volume for more space.",
  });
  addSection({ id: "volumes", title: "Volumes", command: "listVolumes", tables: ["volumes", "vm_instances", "storage_pools", "resource_tags"],
    refresh: () => list.refresh() });
  onClick("#open-volume", openCreate);
  onClick("#open-volume-url", openFromUrl);
}
