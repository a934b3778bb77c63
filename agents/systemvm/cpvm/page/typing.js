// SPDX-License-Identifier: Apache-2.0
// Types a text on the guest's keyboard, for guests without an agent: key by key, at a pace that a PS/2 keyboard has.

import { typeEvents } from "./keyboard.js";

const KEY_PAUSE_MS = 20;
const MAX_NAMED = 8;

// The first characters that the layout does not have, as "ж" (U+0436).
export function missingCharacters(layout, text) {
  const missing = [...new Set([...text].filter((each) => !layout.chordsOf(each)))];
  return missing.slice(0, MAX_NAMED)
    .map((each) => `“${each}” (U+${each.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")})`);
}

// Type a text whose characters the layout has. `progress` is called with the number typed; `signal` ends it.
export async function typeText(screen, layout, text, signal, progress = () => {}) {
  const characters = [...text.replaceAll("\r\n", "\n")];
  for (const [place, character] of characters.entries()) {
    if (signal.aborted) return false;
    screen.sendEvents(typeEvents(layout, character));
    progress(place + 1, characters.length);
    await new Promise((wake) => setTimeout(wake, KEY_PAUSE_MS));
  }
  return true;
}
