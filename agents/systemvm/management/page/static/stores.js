// SPDX-License-Identifier: Apache-2.0
// What administrators do with image stores.

import { call, followJob } from "./api.js";
import { List } from "./list.js";
import { addSection } from "./sections.js";
import { objectRow, storeCard, targetChoice } from "./store_views.js";
import { $, ask, form, onClick, opening, show, titled, toast } from "./ui.js";
import { act, actions } from "./work.js";
import { chosenZone, ZONE_FILTER } from "./zone_choice.js";

const MOVES = new Set(["migrateSecondaryStorageData", "retireImageStore"]);

let list;

// By store: the newest job that moves its content. Another administrator can have begun it.
async function newestMoves() {
  const { asyncjobs = [] } = await call("listAsyncJobs", { listall: "true" });
  const found = asyncjobs.filter((each) => MOVES.has(each.cmd)).sort((a, b) => Date.parse(a.created) - Date.parse(b.created));
  return new Map(found.map((each) => [each.jobinstanceid, each]));
}

async function load(parameters) {
  const [{ imagestore = [], count = imagestore.length }, moves] = await Promise.all([call("listImageStores", parameters), newestMoves()]);
  const rows = imagestore.map((store) => {
    const move = moves.get(store.id);
    const { jobstatus, jobprocstatus, jobprogresstext, jobresult } = move ?? {};
    return { ...store, job: move && { jobstatus, jobprocstatus, jobprogresstext, jobresult } };
  });
  return { rows, count };
}

const storeOf = (id) => list.find(id);

Object.assign(actions, {
  "store-contents": (id) => browse(id, ""),
  "store-edit"(id) {
    const store = storeOf(id);
    const { elements } = $("#store-edit form");
    elements.id.value = id;
    elements.name.value = store.name;
    elements.readonly.checked = store.readonly;
    elements.accesskey.value = elements.secretkey.value = "";
    showFieldsOf($("#store-edit"), store.providername);
    show($("#store-edit"));
  },
  async "store-move"(id) {
    const fits = opening();
    const store = storeOf(id);
    const { imagestore = [] } = await call("listImageStores");
    if (!fits()) return;
    const others = imagestore.filter((other) => other.id !== id && other.zoneid === store.zoneid && !other.readonly && !other.retiring);
    if (!others.length) {
      toast(`There is no other writable store in ${store.zonename}: add one first`, true);
      return;
    }
    $("#store-move h2").replaceChildren(...titled`Move content off ${store.name}`);
    $("#store-move form").elements.id.value = id;
    $("#store-move .choices").replaceChildren(...others.map(targetChoice));
    show($("#store-move"));
  },
  "store-cancel": (id) => act(id, "Canceling…", () => call("cancelImageStoreMigration", { id })),
  async "store-delete"(id, name) {
    if (await ask(titled`Delete ${name}?`, "A store with an only copy is not deleted. Its files stay where they are.", "Delete")) {
      await act(id, "Deleting…", () => call("deleteImageStore", { id }));
    }
  },
});

let browsing = 0; // counts the directories that were asked for

async function browse(id, path) {
  const dialog = $("#contents");
  const mine = (browsing += 1);
  const fits = dialog.open ? () => dialog.open && mine === browsing : opening();
  try {
    const { datastoreobject = [] } = await call("listImageStoreObjects", { id, ...(path ? { path } : {}) });
    if (!fits()) return;
    dialog.querySelector("h2").replaceChildren(...titled`${storeOf(id)?.name ?? ""}: /${path}`);
    dialog.querySelector("tbody").replaceChildren(...datastoreobject.map(objectRow));
    dialog.querySelector("p").hidden = datastoreobject.length > 0;
    dialog.querySelector("table").hidden = !datastoreobject.length;
    dialog.querySelector("[value=up]").disabled = !path;
    Object.assign(dialog.dataset, { store: id, path });
    if (!dialog.open) show(dialog);
  } catch (error) {
    toast(error.message, true);
  }
}

// Fields of the other kinds are neither shown, nor checked, nor sent.
function showFieldsOf(dialog, provider) {
  for (const fields of dialog.querySelectorAll("fieldset[data-provider]")) {
    fields.hidden = fields.disabled = fields.dataset.provider !== provider;
  }
}

// Returns the parameters that describe an export or a bucket.
function definition({ provider, url, version, options, host, endpoint, bucket, capacity, publiclinks, ...more }) {
  const { accesskey, secretkey, region, cacertificate } = more;
  const details = provider === "S3"
    ? { endpoint, bucket, accesskey, secretkey, region, cacertificate, capacitybytes: capacity && String(capacity * 2 ** 30),
      publiclinks: publiclinks ? "" : "false" }
    : { "nfs.version": version, nfsmountopts: options, "host.path": host };
  return { provider, ...(provider === "S3" ? {} : { url }), ...detailsOf(details) };
}

function detailsOf(details) {
  const given = Object.entries(details).filter(([, value]) => value);
  return Object.fromEntries(given.map(([key, value]) => [`details[0].${key}`, value]));
}

// `refresh` redraws the page.
export function wireStores(refresh) {
  list = new List($("#stores"), {
    label: "image stores", load, card: storeCard, refresh, sorts: [["name", "name"], ["providername", "kind"]], filters: [ZONE_FILTER],
    empty: "There is no image store yet: nothing can be downloaded. Add one.",
  });
  addSection({ id: "stores", title: "Image stores", command: "listImageStores",
    tables: ["image_stores", "template_store_refs", "async_jobs"], refresh: () => list.refresh() });
  const kind = $("#store-add form").elements.provider;
  kind.addEventListener("change", () => showFieldsOf($("#store-add"), kind.value));
  onClick("#open-store", () => {
    chosenZone($("#store-add [name=zoneid]"));
    showFieldsOf($("#store-add"), kind.value);
    show($("#store-add"));
  });
  form($("#store-add"), async (data) => {
    const { name, zoneid, ...fields } = Object.fromEntries(data);
    await call("addImageStore", { name, zoneid, ...definition(fields) });
    toast(`${name} is added.`);
  });
  form($("#store-edit"), async (data) => {
    const { id, name, readonly, accesskey, secretkey } = Object.fromEntries(data);
    const before = storeOf(id);
    const changes = {
      ...(name !== before.name ? { name } : {}),
      ...(Boolean(readonly) !== before.readonly ? { readonly: String(Boolean(readonly)) } : {}),
      ...detailsOf({ accesskey, secretkey }),
    };
    if (Object.keys(changes).length) await call("updateImageStore", { id, ...changes });
  });
  form($("#store-move"), async (data) => {
    const { id, kind } = Object.fromEntries(data);
    const targets = data.getAll("target").join(",");
    if (!targets) throw new Error("no store is chosen: choose at least one");
    const { jobid } = kind === "retire" ? await call("retireImageStore", { id, destpools: targets })
      : await call("migrateSecondaryStorageData", { srcpool: id, destpools: targets, migrationtype: kind });
    const name = storeOf(id)?.name ?? "the store";
    followJob(jobid).then(() => toast(`The move off ${name} is complete.`), (error) => toast(error.message, true));
  });
  $("#contents").addEventListener("click", ({ target }) => {
    const { store, path } = $("#contents").dataset;
    if (target.dataset.directory) browse(store, [path, target.dataset.directory].filter(Boolean).join("/"));
    else if (target.value === "up") browse(store, path.split("/").slice(0, -1).join("/"));
  });
}
