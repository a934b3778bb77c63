// SPDX-License-Identifier: Apache-2.0
// A dialog that asks for a few values. An error of what they are used for is shown in it, and it stays open.

import { element } from "./elements.js";
import { $, form, options } from "./ui.js";

let use = async () => {};

// Ask for `fields`: {name, label, value, type, choices, ...attributes of the input} each; `choices` are pairs of value
// and label. `submit(values)` gets the texts by name, without those that are empty.
export function askFields({ title, text, fields, verb, submit }) {
  const dialog = $("#fields");
  dialog.querySelector("h2").textContent = title;
  const about = dialog.querySelector("p.muted");
  about.textContent = text ?? "";
  about.hidden = !text;
  dialog.querySelector(".fields").replaceChildren(...fields.map(field));
  dialog.querySelector("button.primary").textContent = verb;
  dialog.querySelector(".error").hidden = true;
  use = submit;
  dialog.showModal();
}

function field({ label, choices, value, ...attributes }) {
  const input = choices ? element("select", attributes) : element("input", { type: "text", autocomplete: "off", ...attributes });
  if (choices) input.append(...options(choices.map(([id, text]) => ({ id, label: text }))));
  if (value !== undefined && value !== null) input.value = value;
  return element("label", {}, `${label} `, input);
}

export function wireFieldDialog() {
  form($("#fields"), (data) => use(Object.fromEntries([...data].filter(([, value]) => value !== ""))));
}
