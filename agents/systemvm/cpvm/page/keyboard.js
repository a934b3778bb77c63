// SPDX-License-Identifier: Apache-2.0
// Characters as keys of the guest's layout, whatever keyboard the user has.
//
// A server that knows QEMU's extended key events presses the key at the place of a code. Any other maps the keysym
// by a US keyboard; so each key also has the keysym that a US keyboard has at its place.

import keysyms from "./novnc/core/input/keysymdef.js";
import { CODE_OF_NUMBER, KEYS } from "./keys.js";

const SHIFT = 0x2a;
const ALT_GR = 0xb8;
const MODIFIERS = new Map([[SHIFT, KEYS.Shift], [ALT_GR, KEYS.AltGr]]);
const CONTROLS = new Map([[0x1c, KEYS.Enter], [0x0f, KEYS.Tab], [0x0e, KEYS.Backspace], [0x01, KEYS.Esc]]);
const MODIFIER_OF_CODE = new Map([["ShiftLeft", SHIFT], ["ShiftRight", SHIFT], ["AltRight", ALT_GR]]);

// `table` and `us` have the chords of each character, as the files in keymaps/ do.
export class Layout {
  constructor(name, table, us) {
    this.name = name;
    this._chords = new Map(Object.entries(table));
    this._characters = new Map([...this._chords.keys()].map((each) => [keysyms.lookup(each.codePointAt(0)), each]));
    this._us = new Map();
    for (const [character, [chord]] of Object.entries(us)) {
      const [number, ...modifiers] = chord.toReversed();
      if (!modifiers.includes(ALT_GR)) this._us.set(`${number} ${modifiers.includes(SHIFT)}`, character);
    }
  }

  chordsOf(character) {
    return this._chords.get(character);
  }

  characterOf(keysym) {
    return this._characters.get(keysym);
  }

  // Whether only Shift, and so Caps Lock, tells a letter from the other one of its pair.
  isOfPair(character) {
    const other = character.toLowerCase() === character ? character.toUpperCase() : character.toLowerCase();
    const chords = [this._chords.get(character), this._chords.get(other)];
    if (other === character || chords.some((each) => each?.length !== 1)) return false;
    const plain = chords.map(([chord]) => chord.filter((number) => number !== SHIFT).join());
    return plain[0] === plain[1];
  }

  key(number, shifted) {
    const known = MODIFIERS.get(number) ?? CONTROLS.get(number);
    if (known) return known;
    const character = this._us.get(`${number} ${shifted}`) ?? this._us.get(`${number} ${!shifted}`);
    return { keysym: character ? keysyms.lookup(character.codePointAt(0)) : 0, code: CODE_OF_NUMBER.get(number) };
  }
}

const press = ({ keysym, code }) => [keysym, code, true];
const release = ({ keysym, code }) => [keysym, code, false];

// The events that type a character while no modifier is held; null when the layout does not have it.
export function typeEvents(layout, character) {
  const chords = layout.chordsOf(character);
  return chords ? chords.flatMap((chord) => chordEvents(layout, chord, new Map())) : null;
}

// `held` has the modifiers that the user holds, by their codes; they are as before at the end.
function chordEvents(layout, chord, held) {
  const wanted = new Set(chord.slice(0, -1));
  const has = new Set(held.values());
  const extra = [...held].filter(([, number]) => !wanted.has(number))
    .map(([code, number]) => ({ keysym: layout.key(number).keysym, code }));
  const missing = [...wanted].filter((number) => !has.has(number)).map((number) => layout.key(number));
  const key = layout.key(chord.at(-1), wanted.has(SHIFT));
  return [
    ...extra.map(release), ...missing.map(press),
    press(key), release(key),
    ...missing.toReversed().map(release), ...extra.toReversed().map(press),
  ];
}

// Translates the events of the user's keyboard, one after another.
export class KeyTranslator {
  constructor(layout) {
    this._layout = layout;
    this._held = new Map(); // modifiers
    this._pressed = new Map(); // the guest's key of each of the user's that is down; null: it is up again
  }

  // Return the events to send for one event, as [keysym, code, down].
  translate(keysym, code, down) {
    const modifier = MODIFIER_OF_CODE.get(code);
    if (modifier !== undefined) {
      if (down) this._held.set(code, modifier);
      else this._held.delete(code);
      return [[keysym, code, down]];
    }
    if (!down) return this._release(keysym, code);
    const before = this._pressed.get(code);
    if (before) return [press(before)]; // it repeats
    const character = this._layout.characterOf(keysym); // a numeric keypad has keysyms of its own
    const chords = character === undefined ? undefined : this._layout.chordsOf(character);
    return chords ? this._type(character, chords, code) : [[keysym, code, down]];
  }

  _release(keysym, code) {
    const key = this._pressed.get(code);
    this._pressed.delete(code);
    if (key === null) return [];
    return [key ? release(key) : [keysym, code, false]];
  }

  _type(character, chords, code) {
    const [chord] = chords;
    const has = new Set(this._held.values());
    const wanted = new Set(chord.slice(0, -1));
    if (this._layout.isOfPair(character)) {
      // the guest's Shift and Caps Lock are as the user's
      wanted.delete(SHIFT);
      if (has.has(SHIFT)) wanted.add(SHIFT);
    }
    const isHeld = wanted.size === has.size && [...wanted].every((number) => has.has(number));
    if (chords.length === 1 && isHeld) {
      const key = this._layout.key(chord.at(-1), wanted.has(SHIFT));
      this._pressed.set(code, key);
      return [press(key)];
    }
    this._pressed.set(code, null);
    const all = chords.length === 1 ? [[...wanted, chord.at(-1)]] : chords;
    return all.flatMap((each) => chordEvents(this._layout, each, this._held));
  }
}
