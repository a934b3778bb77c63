// SPDX-License-Identifier: Apache-2.0
// The events of one thing, from the first to the last.

import { call } from "./api.js";
import { $, opening, show, titled, toast } from "./ui.js";
import { steps } from "./views.js";

// `of` are parameters of listEvents that name the thing.
export async function showSteps(name, of) {
  const fits = opening();
  try {
    const { event = [] } = await call("listEvents", { ...of, page: "1", pagesize: "500" });
    if (!fits()) return;
    const dialog = $("#steps");
    dialog.querySelector("h2").replaceChildren(...titled`${name}, step by step`);
    dialog.querySelector("ol").replaceChildren(...steps(event));
    dialog.querySelector("p").hidden = event.length > 0;
    show(dialog);
  } catch (error) {
    toast(error.message, true);
  }
}
