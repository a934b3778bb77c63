// SPDX-License-Identifier: Apache-2.0
// Keys by name, as noVNC sends them: an X11 keysym for servers that map it, and the DOM's code of its place.

import KeyTable from "./novnc/core/input/keysym.js";
import scanCodes from "./novnc/core/input/xtscancodes.js";

const code = (keysym, place) => ({ keysym, code: place });

export const KEYS = {
  Esc: code(KeyTable.XK_Escape, "Escape"),
  Tab: code(KeyTable.XK_Tab, "Tab"),
  Enter: code(KeyTable.XK_Return, "Enter"),
  Backspace: code(KeyTable.XK_BackSpace, "Backspace"),
  Ctrl: code(KeyTable.XK_Control_L, "ControlLeft"),
  Alt: code(KeyTable.XK_Alt_L, "AltLeft"),
  AltGr: code(KeyTable.XK_ISO_Level3_Shift, "AltRight"),
  Shift: code(KeyTable.XK_Shift_L, "ShiftLeft"),
  Win: code(KeyTable.XK_Super_L, "MetaLeft"),
  Menu: code(KeyTable.XK_Menu, "ContextMenu"),
  Print: code(KeyTable.XK_Print, "PrintScreen"),
  Pause: code(KeyTable.XK_Pause, "Pause"),
  Insert: code(KeyTable.XK_Insert, "Insert"),
  Del: code(KeyTable.XK_Delete, "Delete"),
  Home: code(KeyTable.XK_Home, "Home"),
  End: code(KeyTable.XK_End, "End"),
  PgUp: code(KeyTable.XK_Page_Up, "PageUp"),
  PgDn: code(KeyTable.XK_Page_Down, "PageDown"),
  Left: code(KeyTable.XK_Left, "ArrowLeft"),
  Up: code(KeyTable.XK_Up, "ArrowUp"),
  Down: code(KeyTable.XK_Down, "ArrowDown"),
  Right: code(KeyTable.XK_Right, "ArrowRight"),
  ...Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`F${i + 1}`, code(KeyTable.XK_F1 + i, `F${i + 1}`)])),
};

// The events of keys that are pressed together, the last one last: [keysym, code, down].
export function chordEvents(names) {
  const keys = names.map((name) => KEYS[name]);
  const event = (down) => ({ keysym, code: place }) => [keysym, place, down];
  return [...keys.map(event(true)), ...keys.reverse().map(event(false))];
}

// QEMU's number of a key (scan code set 1, with 0x80 for those behind 0xe0) to the DOM's code of its place.
export const CODE_OF_NUMBER = new Map(
  Object.entries(scanCodes).map(([place, scan]) => [scan > 0xff ? (scan & 0x7f) | 0x80 : scan, place]),
);
