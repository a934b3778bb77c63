// SPDX-License-Identifier: Apache-2.0
// What the user does with the objects that are shown: actions by the name of their button, and what is under way.

import { toast } from "./ui.js";

// By object: what is being done with it, which no state of the API tells yet.
export const busy = new Map();
// Functions of an object's id and name, by the `data-action` of the button.
export const actions = {};

const shows = []; // functions that draw what is in `busy`
let refresh = () => {};

// Have `show` called when something begins: rows show it at once, before the daemon has answered anything.
export function onBusy(show) {
  shows.push(show);
}

// Do something with an object and show meanwhile that it is done; an error is shown as a message.
export async function act(id, doing, work) {
  busy.set(id, doing);
  for (const show of shows) show();
  refresh();
  try {
    await work();
  } catch (error) {
    toast(error.message, true);
  } finally {
    busy.delete(id);
    refresh();
  }
}

async function run({ action, target, name }) {
  try {
    await actions[action](target, name);
  } catch (error) {
    toast(error.message, true);
  }
}

// `redraw` shows what has changed.
export function wireActions(redraw) {
  refresh = redraw;
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-action]");
    if (button && button.ariaDisabled !== "true") run(button.dataset);
  });
}
