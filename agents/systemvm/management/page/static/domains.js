// SPDX-License-Identifier: Apache-2.0
// Domains, for administrators: a tree in the order of their paths, which the daemon searches and pages.

import { allRows, call, followJob, user } from "./api.js";
import { nameOf as detailsOf } from "./details.js";
import { element, offer } from "./elements.js";
import { askFields, opening } from "./field_dialog.js";
import { limitsOf } from "./limits.js";
import { List, rowsOf } from "./list.js";
import { addSection } from "./sections.js";
import { $, titled, toast } from "./ui.js";
import { act, actions } from "./work.js";

const COLUMNS = [
  { label: "Name", cell: nameOf },
  { label: "Path", sort: "path", cell: (domain) => domain.path },
  { label: "Actions", className: "actions", cell: buttonsOf },
];
let list;

function nameOf(domain) {
  return element("span", { className: "branch", style: { paddingInlineStart: `${Math.min(domain.level, 12) * 1.4}rem` } },
    domain.level ? "└ " : null, detailsOf("DOMAIN", domain));
}

function buttonsOf(domain, doing) {
  const off = { disabled: Boolean(doing) };
  const ofRoot = !domain.parentdomainid;
  const fixed = ofRoot || (domain.id === user().domainid && !user().admin); // a domain administrator does not change the own one
  return [
    doing ? element("small", {}, doing) : null,
    offer("createDomain", "domain-add", "Add beneath…", domain, off),
    ofRoot ? null : offer("listResourceLimits", "domain-limits", "Limits", domain),
    fixed ? null : offer("updateDomain", "domain-rename", "Rename…", domain, off),
    fixed ? null : offer("deleteDomain", "domain-delete", "Delete…", domain, { ...off, className: "danger" })];
}

const NAME = { name: "name", required: true, maxLength: 190 };

async function openAdd(parent = "") {
  const open = opening();
  try {
    const domains = await allRows("listDomains", "domain", { listall: "true", sortby: "path" });
    open({
      title: "Add a domain", verb: "Add",
      fields: [{ ...NAME, label: "Name", placeholder: "research" },
        { name: "parentdomainid", label: "Beneath", required: true, choices: domains.map(({ id, path }) => [id, path]), value: parent || domains[0]?.id }],
      async submit(values) {
        const { domain } = await call("createDomain", values);
        toast(`${domain.path} is created.`);
      },
    });
  } catch (error) {
    toast(error.message, true);
  }
}

Object.assign(actions, {
  "domain-add": (id) => openAdd(id),
  "domain-limits": (id, name) => limitsOf({ domainid: id, label: `domain ${list.find(id)?.path ?? name}` }),
  "domain-rename": (id, name) => askFields({
    title: titled`Rename ${name}`, verb: "Rename", fields: [{ ...NAME, label: "New name", value: name }],
    submit: (values) => call("updateDomain", { id, ...values }),
  }),
  "domain-delete": (id, name) => askFields({
    title: titled`Delete ${name}?`, verb: "Delete", danger: true,
    fields: [{ name: "cleanup", type: "checkbox", label: "With its accounts and all that they own, and the domains beneath it" }],
    async submit(values) {
      const { jobid } = await call("deleteDomain", { id, ...values }); // what refuses it at once is shown in the dialog
      act(id, "Deleting…", () => followJob(jobid));
    },
  }),
});

// `refresh` redraws the page.
export function wireDomains(refresh) {
  list = new List($("#domains"), {
    label: "domains", columns: COLUMNS, refresh, sort: { by: "path", descending: false },
    load: rowsOf("listDomains", "domain", { listall: "true" }), empty: "There is no domain.",
  });
  addSection({ id: "domains", title: "Domains", command: "createDomain", tables: ["domains"], refresh: () => list.refresh() });
  $("#open-domain").addEventListener("click", () => openAdd());
}
