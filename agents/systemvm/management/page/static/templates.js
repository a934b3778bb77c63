// SPDX-License-Identifier: Apache-2.0
// Templates and ISOs: listed by kind and by who has access, registered, uploaded, downloaded, deleted.

import { call, commands, job, user } from "./api.js";
import { copyToZone } from "./copies.js";
import { showLink } from "./extract.js";
import { askFields, opening } from "./field_dialog.js";
import { List } from "./list.js";
import { addSection } from "./sections.js";
import { showSteps } from "./steps.js";
import { byTag, TAG_FILTER } from "./tag_filter.js";
import { $, ask, onClick, titled, toast } from "./ui.js";
import { isUploading, reconcileUploads, uploadAgain } from "./uploads.js";
import { templateCells } from "./views.js";
import { act, actions } from "./work.js";
import { ZONE_COLUMN, ZONE_FILTER, zoneField } from "./zone_choice.js";

const TABLES = ["templates", "template_store_refs", "template_permissions", "image_stores", "zones", "resource_tags"];
const FILTERS = [["self", "own"], ["executable", "ready to use"], ["featured", "featured"], ["community", "of others"], ["shared", "shared with me"]];
const FORMATS = ["QCOW2", "RAW", "VHD", "VHDX", "VMDK", "OVA", "TAR", "ISO"];
const PASSWORDS = { name: "passwordenabled", type: "checkbox", label: "Its guests take passwords from the cloud" };
const COLUMNS = [
  { label: "Name", sort: "name", cell: templateCells.name },
  { label: "Size", cell: templateCells.size },
  { label: "State", className: "wide", cell: templateCells.state },
  ZONE_COLUMN,
  { label: "Registered", sort: "created", cell: ({ created }) => (created ? new Date(created).toLocaleDateString() : "") },
  { label: "Actions", className: "actions", cell: (template, busy) => templateCells.buttons(template, busy, user().admin) },
];

let list;

async function load({ kind, filter, ...parameters }) {
  const iso = kind === "iso";
  const wanted = filter || (user().admin ? "all" : "self");
  const answer = iso ? await call("listIsos", { isofilter: wanted, ...parameters })
    : await call("listTemplates", { templatefilter: wanted, ...parameters });
  const images = (iso ? answer.iso ?? [] : answer.template ?? []).map((row) => (iso ? { ...row, format: "ISO" } : row));
  const rows = images.filter(({ id }) => !isUploading(id)).map((image) => ({ ...image, id: rowId(image), image }));
  return { rows, count: answer.count ?? images.length };
}

// An image has a row in each of its zones.
const rowId = ({ id, zoneid }) => `${id} ${zoneid}`;
const imageOf = (row) => list.find(row).image;
const kindOf = ({ format }) => (format === "ISO" ? "Iso" : "Template");

const names = (text) => text.split(",").map((name) => name.trim()).filter(Boolean);

// Who else uses an image. What only administrators change is theirs to see.
async function share(image) {
  const open = opening();
  const { id, name, ispublic, isfeatured, isextractable } = image;
  const kind = kindOf(image);
  const { templatepermission } = commands().has(`list${kind}Permissions`) ? await call(`list${kind}Permissions`, { id }) : {};
  const before = templatepermission?.account ?? [];
  const flag = (key, label, checked) => ({ name: key, type: "checkbox", label, checked });
  const flags = { ispublic, ...(user().admin ? { isfeatured, isextractable } : {}) };
  const LABELS = { ispublic: "Every account uses it", isfeatured: "It is featured", isextractable: "Its users download it" };
  open({
    title: titled`Share ${name}`, verb: "Save",
    fields: [{ name: "accounts", label: "Accounts of its domain that use it, with commas between", value: before.join(", ") },
      ...Object.entries(flags).map(([key, checked]) => flag(key, LABELS[key], checked))],
    async submit({ accounts = "", ...given }) {
      const after = names(accounts);
      const changes = Object.keys(flags).filter((key) => Boolean(given[key]) !== Boolean(flags[key]));
      if (changes.length) await call(`update${kind}Permissions`, { id, ...Object.fromEntries(changes.map((key) => [key, String(Boolean(given[key]))])) });
      for (const [op, all, others] of [["add", after, before], ["remove", before, after]]) {
        const wanted = all.filter((account) => !others.includes(account));
        if (wanted.length) await call(`update${kind}Permissions`, { id, op, accounts: wanted.join(",") });
      }
    },
  });
}

Object.assign(actions, {
  async "template-retry"(row) {
    const image = imageOf(row);
    await act(row, "Retrying…", () => call(`retry${kindOf(image)}`, { id: image.id }));
  },
  "template-link"(row) {
    const image = imageOf(row);
    const kind = kindOf(image);
    return act(row, "Creating a link…", () => showLink(image, `extract${kind}`, kind.toLowerCase()));
  },
  "template-upload": (row) => uploadAgain(imageOf(row), kindOf(imageOf(row)) === "Iso"),
  "template-edit"(row, name) {
    const image = imageOf(row);
    const { id, displaytext, passwordenabled } = image;
    askFields({
      title: titled`Edit ${name}`, verb: "Save",
      fields: [{ name: "name", label: "Name", required: true, maxLength: 255, value: name },
        { name: "displaytext", label: "Description", maxLength: 4096, value: displaytext }, { ...PASSWORDS, checked: passwordenabled }],
      submit: (values) => call(`update${kindOf(image)}`, { id, displaytext: "", passwordenabled: "false", ...values }),
    });
  },
  "template-copy": (row) => copyToZone(imageOf(row), `copy${kindOf(imageOf(row))}`),
  "template-share": (row) => share(imageOf(row)),
  async "template-delete"(row, name) {
    const image = imageOf(row);
    const { id, zoneid, zonename, crossZones } = image;
    const kind = kindOf(image);
    const { virtualmachine = [] } = kind === "Iso" ? {} : await call("listVirtualMachines", { listall: "true", templateid: id, page: "1", pagesize: "1" });
    const used = virtualmachine.length > 0;
    const where = `secondary storage of ${crossZones ? "all zones" : zonename}`;
    const text = used ? `Virtual machines use this template. They keep their disks; the template is deleted from ${where}.` : `This deletes it from ${where}.`;
    if (!(await ask(titled`Delete ${name}?`, text, "Delete"))) return;
    await act(row, "Deleting…", () => job(`delete${kind}`, { id, zoneid, ...(used ? { forced: "true" } : {}) }));
  },
  trace: (row, name) => showSteps(name, { resourceid: imageOf(row).id }),
});

// `refresh` redraws the page.
export function wireTemplates(refresh) {
  list = new List($("#templates"), {
    label: "templates and ISOs", load: byTag(load), columns: COLUMNS, refresh,
    filters: [{ name: "kind", label: "Kind", choices: [["template", "templates"], ["iso", "ISOs"]] },
      { name: "filter", label: "Show", choices: [["", "mine, or all"], ...FILTERS] }, ZONE_FILTER, TAG_FILTER],
    empty: "There is no template or ISO yet. Register a URL, or upload a file, to begin.",
  });
  addSection({ id: "templates", title: "Templates and ISOs", command: "listTemplates", tables: TABLES, async refresh() {
    await reconcileUploads();
    await list.refresh();
  } });
  onClick("#open-register", openRegister);
}

function openRegister() {
  askFields({
    title: "Register a template or ISO", text: "The secondary storage VM downloads the image, checks it and stores it.", verb: "Register",
    fields: [
      zoneField({ every: user().admin }),
      { name: "name", label: "Name", required: true, maxLength: 255, placeholder: "Debian 13" },
      { name: "url", label: "URL", type: "url", required: true, placeholder: "https://…/image.qcow2" },
      [{ name: "format", label: "Format", choices: FORMATS.map((format) => [format, format]) },
        { name: "checksum", label: "Checksum", placeholder: "{SHA-256}… (optional)", pattern: "(\\{[A-Za-z0-9\\-]+\\})?[0-9A-Fa-f]+" }],
      PASSWORDS],
    async submit({ format, ...values }) {
      const common = { ...values, displaytext: values.name };
      if (format === "ISO") await call("registerIso", { ...common, bootable: "true" });
      else await call("registerTemplate", { ...common, format, hypervisor: "KVM" });
      toast(`${values.name} is registered. Its download starts.`);
    },
  });
}
