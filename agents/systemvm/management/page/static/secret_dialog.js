// SPDX-License-Identifier: Apache-2.0
// Secrets that the API tells once: shown with buttons that copy them, and nowhere once the dialog is closed.

import { element } from "./elements.js";
import { $, showInTurn } from "./ui.js";

// Show `values`, {name, label, value} each; those that are to be copied have `copied`. It can open at any time: one that
// is open stays until it is closed.
export function showSecret({ title, text, values }) {
  const dialog = $("#secret");
  return showInTurn(dialog, () => {
    dialog.querySelector("h2").textContent = title;
    dialog.querySelector("p").textContent = text;
    dialog.querySelector(".fields").replaceChildren(...values.map(line));
  });
}

function line({ name, label, value, copied = true }) {
  const input = element("input", { name, value, readOnly: true, autocomplete: "off" });
  const button = element("button", { type: "button", ariaLabel: `Copy ${label}`, data: { copy: name } }, "Copy");
  return element("div", { className: "field" }, element("label", {}, `${label} `, input), copied ? button : null);
}

export function wireSecretDialog() {
  const dialog = $("#secret");
  dialog.addEventListener("close", () => dialog.querySelector(".fields").replaceChildren());
}
