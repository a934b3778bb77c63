// SPDX-License-Identifier: Apache-2.0
// Domains, for administrators: a tree in the order of their paths, which the daemon searches and pages.

import { allRows, call, commands, followJob } from "./api.js";
import { action, element } from "./elements.js";
import { limitsOf } from "./limits.js";
import { List, rowsOf } from "./list.js";
import { addSection } from "./sections.js";
import { $, form, options, toast } from "./ui.js";
import { act, actions } from "./work.js";

const COLUMNS = [
  { label: "Name", cell: nameOf },
  { label: "Path", sort: "path", cell: (domain) => domain.path },
  { label: "Actions", className: "actions", cell: buttonsOf },
];
let list;

function nameOf(domain) {
  return element("strong", { className: "branch", style: { paddingInlineStart: `${Math.min(domain.level, 12) * 1.4}rem` } },
    domain.level ? `└ ${domain.name}` : domain.name);
}

function buttonsOf(domain, doing) {
  const off = { disabled: Boolean(doing) };
  const ofRoot = !domain.parentdomainid;
  const permitted = (command) => commands().has(command);
  return [
    doing ? element("small", {}, doing) : null,
    permitted("createDomain") ? action("domain-add", "Add beneath…", domain, off) : null,
    ofRoot ? null : action("domain-limits", "Limits", domain),
    ofRoot || !permitted("updateDomain") ? null : action("domain-rename", "Rename…", domain, off),
    ofRoot || !permitted("deleteDomain") ? null : action("domain-delete", "Delete…", domain, { ...off, className: "danger" })];
}

async function openAdd(parent = "") {
  try {
    const domains = await allRows("listDomains", "domain", { listall: "true", sortby: "path" });
    const select = $("#domain-add [name=parentdomainid]");
    select.replaceChildren(...options(domains.map(({ id, path }) => ({ id, label: path }))));
    if (parent) select.value = parent;
    $("#domain-add").showModal();
  } catch (error) {
    toast(error.message, true);
  }
}

function openFor(dialog, id, title, name = "") {
  const place = $(dialog);
  place.querySelector("form").reset();
  place.querySelector(".error").hidden = true;
  place.querySelector("h2").textContent = title;
  place.querySelector("[name=id]").value = id;
  if (name) place.querySelector("[name=name]").value = name;
  place.showModal();
}

Object.assign(actions, {
  "domain-add": (id) => openAdd(id),
  "domain-limits": (id, name) => limitsOf({ domainid: id, label: `domain ${list.find(id)?.path ?? name}` }),
  "domain-rename": (id, name) => openFor("#domain-rename", id, `Rename ${name}`, name),
  "domain-delete": (id, name) => openFor("#domain-delete", id, `Delete ${name}?`),
});

// `refresh` redraws the page.
export function wireDomains(refresh) {
  list = new List($("#domains"), {
    label: "domains", columns: COLUMNS, refresh, sort: { by: "path", descending: false },
    load: rowsOf("listDomains", "domain", { listall: "true" }), empty: "There is no domain.",
  });
  addSection({ id: "domains", title: "Domains", command: "createDomain", tables: ["domains"], refresh: () => list.refresh() });
  $("#open-domain").addEventListener("click", () => openAdd());
  form($("#domain-add"), async (data) => {
    const { domain } = await call("createDomain", Object.fromEntries(data));
    toast(`${domain.path} is created.`);
  });
  form($("#domain-rename"), (data) => call("updateDomain", Object.fromEntries(data)));
  form($("#domain-delete"), async (data) => {
    const given = Object.fromEntries(data);
    const { jobid } = await call("deleteDomain", given); // what refuses it at once is shown in the dialog
    act(given.id, "Deleting…", () => followJob(jobid));
  });
}
