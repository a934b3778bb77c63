// SPDX-License-Identifier: Apache-2.0
// Templates and ISOs: listed by kind and by who has access, registered, uploaded, downloaded, deleted.

import { call, job, user } from "./api.js";
import { showLink } from "./extract.js";
import { List } from "./list.js";
import { addSection } from "./sections.js";
import { showSteps } from "./steps.js";
import { $, ask, form, toast } from "./ui.js";
import { isUploading, reconcileUploads, uploadAgain } from "./uploads.js";
import { templateCells } from "./views.js";
import { act, actions } from "./work.js";

const TABLES = ["templates", "template_store_refs", "template_permissions", "image_stores", "zones"];
const FILTERS = [["self", "own"], ["executable", "ready to use"], ["featured", "featured"], ["community", "of others"], ["shared", "shared with me"]];
const COLUMNS = [
  { label: "Name", sort: "name", cell: templateCells.name },
  { label: "Size", cell: templateCells.size },
  { label: "State", className: "wide", cell: templateCells.state },
  { label: "Registered", sort: "created", cell: ({ created }) => (created ? new Date(created).toLocaleDateString() : "") },
  { label: "Actions", className: "actions", cell: (template, busy) => templateCells.buttons(template, busy, user().admin) },
];

let list;

async function load({ kind, filter, ...parameters }) {
  const iso = kind === "iso";
  const wanted = filter || (user().admin ? "all" : "self");
  const answer = iso ? await call("listIsos", { isofilter: wanted, ...parameters })
    : await call("listTemplates", { templatefilter: wanted, ...parameters });
  const rows = (iso ? answer.iso ?? [] : answer.template ?? []).map((row) => (iso ? { ...row, format: "ISO" } : row));
  return { rows: rows.filter(({ id }) => !isUploading(id)), count: answer.count ?? rows.length };
}

const isIso = (id) => list.find(id)?.format === "ISO";

Object.assign(actions, {
  async "template-retry"(id) {
    await act(id, "Retrying…", () => call(isIso(id) ? "retryIso" : "retryTemplate", { id }));
  },
  "template-link": (id) => act(id, "Creating a link…", () => (isIso(id) ? showLink(list.find(id), "extractIso", "iso")
    : showLink(list.find(id), "extractTemplate", "template"))),
  "template-upload": (id) => uploadAgain(list.find(id), isIso(id)),
  async "template-delete"(id, name) {
    const iso = isIso(id);
    const { virtualmachine = [] } = iso ? {} : await call("listVirtualMachines", { listall: "true", templateid: id, page: "1", pagesize: "1" });
    const used = virtualmachine.length > 0;
    const text = used ? "Virtual machines use this template. They keep their disks; the template is deleted from secondary storage."
      : "This deletes it from secondary storage.";
    if (!(await ask(`Delete ${name}?`, text, "Delete"))) return;
    await act(id, "Deleting…", () => job(iso ? "deleteIso" : "deleteTemplate", { id, ...(used ? { forced: "true" } : {}) }));
  },
  trace: (id, name) => showSteps(name, { resourceid: id }),
});

// `zoneOf` returns the zone that is shown; `refresh` redraws the page.
export function wireTemplates(zoneOf, refresh) {
  list = new List($("#templates"), {
    label: "templates and ISOs", load, columns: COLUMNS, refresh,
    filters: [{ name: "kind", label: "Kind", choices: [["template", "templates"], ["iso", "ISOs"]] },
      { name: "filter", label: "Show", choices: [["", "mine, or all"], ...FILTERS] }],
    empty: "There is no template or ISO yet. Register a URL, or upload a file, to begin.",
  });
  addSection({ id: "templates", title: "Templates and ISOs", command: "listTemplates", tables: TABLES, async refresh() {
    await reconcileUploads();
    await list.refresh();
  } });
  form($("#register"), async (data) => {
    const { name, url, format, checksum } = Object.fromEntries(data);
    const common = { name, displaytext: name, url, zoneid: zoneOf().id, ...(checksum ? { checksum } : {}) };
    if (format === "ISO") await call("registerIso", { ...common, bootable: "true" });
    else await call("registerTemplate", { ...common, format, hypervisor: "KVM" });
    toast(`${name} is registered. Its download starts.`);
  });
  $("#open-register").addEventListener("click", () => $("#register").showModal());
}
