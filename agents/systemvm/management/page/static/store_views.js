// SPDX-License-Identifier: Apache-2.0
// Image stores: how full each is, what moves off it, and what is on it.

import { nameOf } from "./details.js";
import { badge, bytes, element, offer, progress } from "./elements.js";

const percentOf = (ratio) => `${Math.round(100 * ratio)} %`;

// `store` is listImageStores' with the newest job that moves its content as `job`.
export function storeCard(store, busy) {
  const { job } = store;
  const moving = job?.jobstatus === 0;
  const off = { disabled: Boolean(busy) };
  return element("article", { className: "card" },
    element("div", { className: "top" }, nameOf("SECONDARY_STORAGE", store), element("span", { className: "grow" }),
      badge(store.retiring ? "retiring" : store.readonly ? "read-only" : "writable", busy)),
    capacity(store),
    element("dl", {}, ...[["zone", store.zonename], ["at", store.url], ["kind", store.providername]]
      .flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, value)])),
    ...fullness(store),
    moving ? element("div", { className: "moving" }, progress(job.jobprocstatus ?? 0, `Content that leaves ${store.name}`),
      element("small", {}, job.jobprogresstext ?? "The move begins.")) : null,
    job?.jobstatus === 2 ? element("p", { className: "hint bad" }, failure(job)) : null,
    element("div", { className: "actions" },
      offer("listImageStoreObjects", "store-contents", "Contents…", store),
      offer("updateImageStore", "store-edit", "Edit…", store, off),
      moving || store.retiring ? offer("cancelImageStoreMigration", "store-cancel", "Cancel move", store, off) : offer("migrateSecondaryStorageData", "store-move", "Move content…", store, off),
      offer("deleteImageStore", "store-delete", "Delete", store, { ...off, className: "danger" })));
}

function failure({ jobresult }) {
  return [jobresult?.errortext, jobresult?.hint].filter(Boolean).join(": ") || "The move failed.";
}

// A bar with a mark at each threshold of the zone.
function capacity({ name, providername, disksizetotal: total, disksizeused: used, notificationthreshold, capacitythreshold }) {
  if (!total && providername === "S3") return element("small", {}, `${bytes(used) || "0 B"} used, no limit`);
  if (!total) return element("small", { className: "muted" }, "Its size is not measured yet.");
  const ratio = (used ?? 0) / total;
  const mark = (at, title) => (at ? element("b", { className: "mark", title, style: { left: percentOf(at).replace(" ", "") } }) : null);
  const bar = progress(100 * ratio, `Used space of ${name}`,
    ...[mark(notificationthreshold, `reported from ${percentOf(notificationthreshold ?? 0)} on`),
      mark(capacitythreshold, `gets nothing new from ${percentOf(capacitythreshold ?? 0)} on`)].filter(Boolean));
  bar.classList.add("capacity");
  if (capacitythreshold && ratio > capacitythreshold) bar.classList.add("full");
  else if (notificationthreshold && ratio > notificationthreshold) bar.classList.add("filling");
  return element("div", {}, bar,
    element("small", {}, `${bytes(used) || "0 B"} of ${bytes(total)} used (${percentOf(ratio)}), ${bytes(total - used) || "nothing"} free`));
}

function fullness({ disksizetotal: total, disksizeused: used, notificationthreshold: notify, capacitythreshold: limit }) {
  const ratio = total ? (used ?? 0) / total : 0;
  if (limit && ratio > limit) {
    const text = `More than ${percentOf(limit)} full: it gets no new templates. Delete templates, move content, or add a store.`;
    return [element("p", { className: "hint bad" }, text)];
  }
  if (notify && ratio > notify) {
    return [element("p", { className: "hint" }, `More than ${percentOf(notify)} full. From ${percentOf(limit ?? 1)} on it gets no new templates.`)];
  }
  return [];
}

export function objectRow(object) {
  const name = object.isdirectory ? element("button", { type: "button", className: "link", data: { directory: object.name } }, `${object.name}/`)
    : element("span", {}, object.name);
  return element("tr", {}, element("td", {}, name), element("td", { className: "number" }, object.isdirectory ? "" : bytes(object.size) || "0 B"),
    element("td", {}, object.templatename ?? ""), element("td", {}, new Date(object.lastupdated).toLocaleString()));
}

export function targetChoice(store) {
  const free = store.disksizetotal ? ` (${bytes(store.disksizetotal - (store.disksizeused ?? 0))} free)` : "";
  return element("label", { className: "choice" }, element("input", { type: "checkbox", name: "target", data: { parameter: "destpools" }, value: store.id, checked: true }),
    ` ${store.name}${free}`);
}
