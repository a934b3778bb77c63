// SPDX-License-Identifier: Apache-2.0
// The menu of keys that a browser or the user's system keeps for itself, and the bar of keys for touch screens.

import { chordEvents, KEYS } from "./keys.js";

const CHORDS = [
  ["Ctrl", "Alt", "Del"], ["Ctrl", "Alt", "Backspace"], ["Ctrl", "Esc"], ["Alt", "Tab"], ["Alt", "F4"], ["Win"], ["Menu"],
  ["Print"], ["Pause"], ["Alt", "Print"],
];
const CONSOLES = Array.from({ length: 12 }, (_, i) => ["Ctrl", "Alt", `F${i + 1}`]);
const FUNCTIONS = Array.from({ length: 12 }, (_, i) => [`F${i + 1}`]);
const MODIFIERS = ["Ctrl", "Alt", "AltGr", "Shift", "Win"];
const BAR = ["Esc", "Tab", "Left", "Up", "Down", "Right", "Enter", "Backspace", "Del", "Insert", "Home", "End", "PgUp", "PgDn"];
const SHOWN = { Left: "←", Up: "↑", Down: "↓", Right: "→", Backspace: "⌫", Enter: "⏎" };
const MODIFIER_CODES = new Set(MODIFIERS.map((name) => KEYS[name].code));

function button(label, title, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = label;
  made.title = title;
  made.addEventListener("click", act);
  return made;
}

// Fill the menu; `screen` returns noVNC, or null.
export function fillKeyMenu(menu, screen) {
  for (const chords of [CHORDS, FUNCTIONS, CONSOLES]) {
    const group = document.createElement("div");
    group.className = "chords";
    group.append(...chords.map((names) => button(names.join("-"), `Send ${names.join("-")} to the virtual machine`, () => {
      screen()?.sendEvents(chordEvents(names));
      menu.hidePopover();
      screen()?.focus();
    })));
    menu.append(group);
  }
}

// The bar: modifiers stay down until another key was pressed, from whatever keyboard.
export class KeyBar {
  constructor(bar, screen, showKeyboard) {
    this._screen = screen;
    this._modifiers = new Map(MODIFIERS.map((name) => [name, button(name, `Hold ${name} for the next key`, () => this._toggle(name))]));
    for (const each of this._modifiers.values()) each.setAttribute("aria-pressed", "false");
    const keys = [...BAR, ...FUNCTIONS.flat()].map((name) => {
      const made = button(SHOWN[name] ?? name, `Press ${name}`, () => this._press(name));
      made.setAttribute("aria-label", name);
      return made;
    });
    bar.append(button("⌨ Keyboard", "Show this device's keyboard", showKeyboard), ...this._modifiers.values(), ...keys);
    // a tap must not take the keyboard away from the screen, or from the device's own keyboard
    bar.addEventListener("pointerdown", (event) => event.preventDefault());
  }

  attach(screen) {
    screen.addEventListener("key", ({ detail: { code, down } }) => {
      if (!down && !MODIFIER_CODES.has(code)) this.releaseModifiers();
    });
    for (const each of this._modifiers.values()) each.setAttribute("aria-pressed", "false");
  }

  _isHeld(name) {
    return this._modifiers.get(name).getAttribute("aria-pressed") === "true";
  }

  _toggle(name) {
    const held = !this._isHeld(name);
    const { keysym, code } = KEYS[name];
    this._screen()?.sendKey(keysym, code, held);
    this._modifiers.get(name).setAttribute("aria-pressed", String(held));
  }

  _press(name) {
    const { keysym, code } = KEYS[name];
    this._screen()?.sendKey(keysym, code);
  }

  releaseModifiers() {
    for (const name of MODIFIERS) {
      if (this._isHeld(name)) this._toggle(name);
    }
  }
}
