// SPDX-License-Identifier: Apache-2.0
// A dialog that asks for a few values. An error of what they are used for is shown in it, and it stays open.

import { element } from "./elements.js";
import { $, afterClose, clearError, form, opening as begin, options, show, toast } from "./ui.js";

let use = async () => {};

// Ask for `fields`: {name, label, value, type, choices, ...attributes of the input} each, or an array of two that are
// beside each other. `choices` are pairs of value and label; `rows` makes it a text of several lines. `danger` is whether
// the button deletes, `title` a text or one of `titled`. `submit(values)` gets the texts by name, without those that are empty, and "true" of what is checked.
// `ofZone(zoneid)` returns, by name of fields, the choices that depend on the field `zoneid`: they follow it.
export const askFields = (dialog) => opening()(dialog);

// Begin to ask for values before the first wait for what is shown: returns `askFields` for that, which does nothing when
// the user has meanwhile logged out, opened another dialog, or asked for one later.
export function opening() {
  const fits = begin();
  return (dialog) => { if (fits()) open(dialog); };
}

function open({ title, text, fields, verb, danger = false, ofZone, submit }) {
  const dialog = $("#fields");
  dialog.querySelector("h2").replaceChildren(...[title].flat());
  const about = dialog.querySelector("p.muted");
  about.textContent = text ?? "";
  about.hidden = !text;
  clearError(dialog); // it can be among the fields
  dialog.querySelector(".fields").replaceChildren(...fields.map(line));
  const button = dialog.querySelector("[value=ok]");
  button.textContent = verb;
  button.className = danger ? "danger" : "primary";
  if (ofZone) dialog.querySelector("select[name=zoneid]")?.addEventListener("change", ({ target }) => chooseAgain(target, ofZone));
  use = submit;
  show(dialog);
}

// Offer what the zone has that was chosen; until that is known, nothing is sent. What was chosen stays if it is there, too.
async function chooseAgain(zone, ofZone) {
  const { value, form: { elements } } = zone;
  const isChosen = () => zone.isConnected && zone.value === value; // else another zone, or another use of the dialog
  zone.setCustomValidity("What this zone has is not known yet.");
  try {
    const choices = await ofZone(value);
    if (!isChosen()) return;
    for (const [name, pairs] of Object.entries(choices)) {
      const before = elements[name].value;
      elements[name].replaceChildren(...choicesOf(pairs));
      if (pairs.some(([id]) => id === before)) elements[name].value = before;
    }
    zone.setCustomValidity("");
  } catch (error) {
    if (isChosen()) zone.setCustomValidity(`${error.message}. Choose the zone again.`);
    toast(error.message, true);
  }
}

const choicesOf = (pairs) => options(pairs.map(([id, label]) => ({ id, label })));

function line(fields) {
  return Array.isArray(fields) ? element("div", { className: "pair even" }, ...fields.map(field)) : field(fields);
}

function field({ label, choices, rows, value, ...attributes }) {
  if (attributes.type === "checkbox") {
    return element("label", { className: "choice" }, element("input", { ...attributes, value: "true" }), ` ${label}`);
  }
  if (attributes.type === "hidden") return element("input", { ...attributes, value });
  const input = choices ? element("select", attributes) : rows ? element("textarea", { rows, ...attributes })
    : element("input", { type: "text", autocomplete: "off", ...attributes });
  if (choices) input.append(...choicesOf(choices));
  if (value !== undefined && value !== null) input.value = value;
  return element("label", {}, `${label} `, input);
}

export function wireFieldDialog() {
  const dialog = $("#fields");
  form(dialog, (data) => use(Object.fromEntries([...data].filter(([, value]) => value !== ""))));
  afterClose(dialog, () => dialog.querySelector(".fields").replaceChildren()); // a password does not stay in the page
}
