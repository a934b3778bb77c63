// SPDX-License-Identifier: Apache-2.0
// Text between browser and guest: both clipboards in a panel, or kept the same where the browser permits it, and text
// typed as keys for guests without an agent. The console proxy enforces the policy; the panel only reflects it.

import { missingCharacters, typeText } from "./typing.js";
import { preferences } from "./preferences.js";

const element = (id) => document.getElementById(id);

export class Clipboard {
  // `layout` resolves to the guest's layout.
  constructor(screen, layout) {
    this._screen = screen;
    this._layout = layout;
    this._typing = null;
    this._permits = { toGuest: true, fromGuest: true };
    this._last = null; // what both have, so that a text does not travel back
    element("clipboard-send").addEventListener("click", () => this._send(element("clipboard-text").value));
    element("clipboard-type").addEventListener("click", () => this._type(element("clipboard-text").value));
    element("clipboard-stop").addEventListener("click", () => this._typing?.abort());
    element("clipboard-paste").addEventListener("click", () => this._paste());
    element("clipboard-copy").addEventListener("click", () => this._copy());
    window.addEventListener("focus", () => this._follow());
  }

  permit({ view_only: viewOnly, clipboard_to_guest: toGuest, clipboard_from_guest: fromGuest }) {
    this._permits = { toGuest: toGuest !== false && !viewOnly, fromGuest: fromGuest !== false };
    element("clipboard-send").hidden = !this._permits.toGuest;
    element("clipboard-from").hidden = !this._permits.fromGuest;
    this._say("");
  }

  attach(screen) {
    this._typing?.abort();
    screen.addEventListener("clipboard", ({ detail: { text } }) => this._received(text));
    this._follow();
  }

  _say(text) {
    element("clipboard-state").textContent = text;
  }

  _send(text) {
    this._last = text;
    this._screen()?.clipboardPasteFrom(text.replaceAll("\r\n", "\n"));
    this._say("Sent to the guest's clipboard. A guest without an agent does not receive it: type the text instead.");
  }

  async _type(text) {
    const screen = this._screen();
    if (!screen || this._typing) return;
    const layout = await this._layout().catch(() => null);
    if (!layout) {
      this._say("The keyboard layout cannot be loaded. Check the network, then try again.");
      return;
    }
    const missing = missingCharacters(layout, text);
    if (missing.length) {
      this._say(`This keyboard layout does not have ${missing.join(", ")}. Choose the guest's layout, or replace them.`);
      return;
    }
    const typing = new AbortController();
    this._typing = typing;
    element("clipboard-stop").hidden = false;
    const done = await typeText(screen, layout, text, typing.signal, (typed, all) => this._say(`Typed ${typed} of ${all}`));
    element("clipboard-stop").hidden = true;
    this._typing = null;
    if (!done) this._say("Typing was stopped.");
  }

  async _paste() {
    try {
      element("clipboard-text").value = await navigator.clipboard.readText();
      this._say("");
    } catch {
      this._say("The browser does not permit it. Press Ctrl-V in the field.");
      element("clipboard-text").focus();
    }
  }

  async _copy() {
    try {
      await navigator.clipboard.writeText(element("clipboard-guest").value);
      this._say("Copied.");
    } catch {
      this._say("The browser does not permit it. Select the text and press Ctrl-C.");
      element("clipboard-guest").select();
    }
  }

  _received(text) {
    if (!this._permits.fromGuest) return;
    element("clipboard-guest").value = text;
    if (preferences.clipboard !== "same" || text === this._last) return;
    this._last = text;
    navigator.clipboard?.writeText(text).catch(() => {}); // it stays in the panel
  }

  // Send the browser's clipboard when its user comes back with another text.
  async _follow() {
    if (preferences.clipboard !== "same" || !this._permits.toGuest || !this._screen()) return;
    const text = await navigator.clipboard?.readText?.().catch(() => null);
    if (!text || text === this._last) return;
    this._last = text;
    this._screen()?.clipboardPasteFrom(text.replaceAll("\r\n", "\n"));
  }
}
