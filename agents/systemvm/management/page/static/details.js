// SPDX-License-Identifier: Apache-2.0
// What an object has besides the columns of its list: its id and owner, its tags, and texts about it.

import { allRows, call, commands, job, user } from "./api.js";
import { badge, element } from "./elements.js";
import { watch } from "./live.js";
import { $, opening, show, titled, toast } from "./ui.js";

// Types of tags by the types of annotations.
const TAG_TYPES = { VM: "UserVm", TEMPLATE: "Template", ISO: "ISO", VOLUME: "Volume", SNAPSHOT: "Snapshot", NETWORK: "Network" };
const CHIPS = 4;
// `isMine` is whether the user is allowed to change the item, `changes` how often tags or texts were changed.
const shown = { kind: "", item: null, isMine: false, asked: 0, changes: 0 };

// A shared network has no owner, and no tags.
const hasTags = (kind, { account }) => kind in TAG_TYPES && (kind !== "NETWORK" || Boolean(account)) && commands().has("listTags");
// Texts about what has no owner are between root administrators.
const hasAnnotations = (item) => commands().has("listAnnotations") && (user().admin || Boolean(item.account));

// Domain administrators also see what is public, and change only what is in their domain or beneath it.
async function mayChange({ account, domainid }) {
  if (user().admin) return true;
  if (!account) return false;
  if (domainid === user().domainid) return user().administrator || account === user().account;
  if (!user().administrator || !commands().has("listDomains")) return false;
  return Boolean((await call("listDomains", { id: domainid })).domain?.length);
}

// The name of an object, which opens its details; `kind` is its type in listAnnotations, if it is one of these.
export function nameOf(kind, item, name = item.name) {
  if (!kind || (!hasTags(kind, item) && !hasAnnotations(item))) return element("strong", {}, name);
  return element("button", { type: "button", className: "name", title: "Details", data: { target: item.id },
    onclick: () => openDetails(kind, item, name).catch((error) => toast(error.message, true)) }, name);
}

// The tags of a row of a list.
export function tagsOf({ tags = [] }) {
  if (!tags.length) return null;
  const chips = tags.slice(0, CHIPS).map(({ key, value }) => element("span", {}, `${key}=${value}`));
  return element("small", { className: "tags" }, ...chips, tags.length > CHIPS ? `${tags.length - CHIPS} more` : null);
}

// ---- the dialog ---------------------------------------------------------------------------------------------

function facts({ id, account, domain, zonename, zone, created }) {
  const known = [["ID", id], ["owner", account ? [account, domain].filter(Boolean).join(", ") : null], ["zone", zonename ?? zone],
    ["created", created ? new Date(created).toLocaleString() : null]];
  return known.filter(([, value]) => value).flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, value)]);
}

function button(label, about, id, work) {
  return element("button", { type: "button", className: label === "Delete" ? "danger" : "", ariaLabel: `${label} ${about}`, data: { target: id, label }, onclick: () => change(work) }, label);
}

function tagRow({ key, value }) {
  const remove = () => job("deleteTags", { resourceids: shown.item.id, resourcetype: TAG_TYPES[shown.kind], "tags[0].key": key, "tags[0].value": value });
  return element("tr", {}, element("td", {}, key), element("td", {}, value), element("td", { className: "actions" },
    shown.isMine && commands().has("deleteTags") ? button("Delete", `tag ${key}`, key, remove) : null));
}

function annotationItem({ id, annotation, username, userid, adminsonly, created }) {
  const own = user().admin || userid === user().id;
  const turn = () => call("updateAnnotationVisibility", { id, adminsonly: String(!adminsonly) });
  const about = `annotation of ${username}`;
  return element("li", {}, element("p", {}, annotation),
    element("div", {}, element("small", {}, `${username} · ${new Date(created).toLocaleString()}`), adminsonly ? badge("administrators only") : null,
      shown.item.account && commands().has("updateAnnotationVisibility") ? button(adminsonly ? "Show to owner" : "Hide from owner", about, id, turn) : null,
      own && commands().has("removeAnnotation") ? button("Delete", about, id, () => call("removeAnnotation", { id })) : null));
}

// Fill a part of the dialog. What had the keyboard's place gets it back, else its form.
function fill(part, rows, render, command) {
  const place = $(`#details-${part}`);
  const focused = place.contains(document.activeElement) ? { ...document.activeElement.dataset } : {};
  place.hidden = rows === null;
  const form = place.querySelector("form");
  form.hidden = !shown.isMine || !commands().has(command);
  place.querySelector(".rows-of").replaceChildren(...(rows ?? []).map(render));
  place.querySelector(".none").hidden = rows?.length !== 0;
  for (const table of place.querySelectorAll("table")) table.hidden = !rows?.length;
  if (!focused.target || place.contains(document.activeElement)) return;
  const again = [...place.querySelectorAll(`[data-target="${CSS.escape(focused.target)}"]`)];
  (again.find(({ dataset }) => dataset.label === focused.label) ?? again[0] ?? (form.hidden ? $("#details [value=cancel]") : form.elements[0])).focus();
}

// listTags has those of what the user may change; others', such as public templates, show theirs in their list.
const loadTags = (kind, item, isMine) => (isMine
  ? allRows("listTags", "tag", { resourceid: item.id, resourcetype: TAG_TYPES[kind], listall: "true" }) : item.tags ?? []);

const load = (kind, item, isMine) => Promise.all([
  hasTags(kind, item) ? loadTags(kind, item, isMine) : null,
  hasAnnotations(item) ? allRows("listAnnotations", "annotation", { entitytype: kind, entityid: item.id }) : null]);

function draw([tags, annotations]) {
  fill("tags", tags, tagRow, "createTags");
  fill("annotations", annotations, annotationItem, "addAnnotation");
}

async function openDetails(kind, item, name) {
  const [fits, { changes }] = [opening(), shown];
  const isMine = await mayChange(item);
  const found = await load(kind, item, isMine);
  if (!fits()) return;
  Object.assign(shown, { kind, item, isMine, asked: shown.asked + 1 });
  const dialog = $("#details");
  dialog.querySelector("h2").replaceChildren(...titled`${name}`);
  dialog.querySelector(".facts").replaceChildren(...facts(item));
  dialog.querySelector(".error").hidden = true;
  for (const form of dialog.querySelectorAll("form")) form.reset();
  $("#details [name=adminsonly]").closest("label").hidden = !(user().admin && item.account);
  draw(found);
  show(dialog);
  if (changes !== shown.changes) await refresh(); // what was loaded can be older
}

// Load and draw again what is shown; only the newest answer is drawn.
async function refresh() {
  const [mine, { kind, item, isMine }] = [shown.asked += 1, shown];
  const found = await load(kind, item, isMine);
  if ($("#details").open && mine === shown.asked && item === shown.item) draw(found);
}

// What the daemon refuses is shown in the dialog, or as a message when it shows something else by then. Returns whether
// the dialog still shows what was changed.
async function change(work) {
  const { item } = shown;
  const isShown = () => $("#details").open && item === shown.item;
  const errorLine = $("#details .error");
  errorLine.hidden = true;
  try {
    await work();
    await refresh();
    return isShown();
  } catch (error) {
    if (isShown()) {
      errorLine.textContent = error.message;
      errorLine.hidden = false;
    } else toast(error.message, true);
    return false;
  }
}

// A form sends once at a time, and is emptied when it was accepted.
function wireForm(part, send) {
  const form = $(`#details-${part} form`);
  const button = form.querySelector("button");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const data = Object.fromEntries(new FormData(form));
    button.disabled = true;
    const accepted = await change(() => send(data));
    button.disabled = false;
    if (!accepted) return;
    form.reset();
    form.elements[0].focus();
  });
}

export function wireDetails() {
  wireForm("tags", ({ key, value }) => job("createTags",
    { resourceids: shown.item.id, resourcetype: TAG_TYPES[shown.kind], "tags[0].key": key, "tags[0].value": value }));
  wireForm("annotations", (given) => call("addAnnotation", { entitytype: shown.kind, entityid: shown.item.id, ...given }));
  watch(["resource_tags", "entity_annotations"], () => {
    shown.changes += 1;
    if ($("#details").open) refresh().catch(() => {}); // the list behind it shows that nothing answers
  });
}
