// SPDX-License-Identifier: Apache-2.0
// Secrets that the API tells once: shown with buttons that copy them, and nowhere once the dialog is closed.

import { element } from "./elements.js";
import { $, afterClose, presence, showInTurn } from "./ui.js";

// Show `values`, {name, label, value} each; those that are to be copied have `copied`. It waits until no other dialog is
// open. `present` tells whether who asked for the secret is still there.
export function showSecret({ title, text, values, present = presence() }) {
  const dialog = $("#secret");
  return showInTurn(dialog, () => {
    dialog.querySelector("h2").textContent = title;
    dialog.querySelector("p").textContent = text;
    dialog.querySelector(".fields").replaceChildren(...values.map(line));
  }, present);
}

function line({ name, label, value, copied = true }) {
  const input = element("input", { name, value, readOnly: true, autocomplete: "off" });
  const button = element("button", { type: "button", ariaLabel: `Copy ${label}`, data: { copy: name } }, "Copy");
  return element("div", { className: "field" }, element("label", {}, `${label} `, input), copied ? button : null);
}

export function wireSecretDialog() {
  const dialog = $("#secret");
  // only its button closes it: a key that was meant for something else would end what nothing shows again
  for (const type of ["cancel", "submit"]) dialog.addEventListener(type, (event) => event.preventDefault());
  dialog.addEventListener("keydown", (event) => { if (event.key === "Escape") event.preventDefault(); });
  afterClose(dialog, () => dialog.querySelector(".fields").replaceChildren());
}
