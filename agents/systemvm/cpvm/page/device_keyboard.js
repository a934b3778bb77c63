// SPDX-License-Identifier: Apache-2.0
// The keyboard of a phone or tablet, which writes text and sends no keys: what it writes into a field of one marker is
// typed by the layout, and a shorter field is Backspace.

import { chordEvents } from "./keys.js";
import { typeEvents } from "./keyboard.js";

const MARKER = "\u00a0".repeat(8); // several, because a keyboard can delete a word at once

// `type(events)` sends keys, `layout()` resolves to the layout.
export function wireDeviceKeyboard(field, layout, send) {
  const reset = () => {
    field.value = MARKER;
    field.setSelectionRange(MARKER.length, MARKER.length);
  };
  const take = async () => {
    const { value } = field;
    reset();
    const kept = value.startsWith(MARKER) ? MARKER.length : 0;
    if (!kept && value.length < MARKER.length) {
      for (let left = MARKER.length - value.length; left > 0; left -= 1) send(chordEvents(["Backspace"]));
      return;
    }
    const keys = await layout();
    for (const character of value.slice(kept)) send(typeEvents(keys, character) ?? []);
  };
  field.addEventListener("input", (event) => {
    if (!event.isComposing) take();
  });
  field.addEventListener("compositionend", take);
  field.addEventListener("focus", reset);
  return () => field.focus();
}
