// SPDX-License-Identifier: Apache-2.0
// The keyboard layouts that CloudStack names, and their key tables, which are loaded when they are used.

import { Layout } from "./keyboard.js";

export const LAYOUTS = {
  us: "English (US)", uk: "English (UK)", de: "German", "de-ch": "German (Switzerland)", es: "Spanish", fi: "Finnish",
  fr: "French", "fr-be": "French (Belgium)", "fr-ch": "French (Switzerland)", is: "Icelandic", it: "Italian", jp: "Japanese",
  "nl-be": "Dutch (Belgium)", no: "Norwegian", pt: "Portuguese", sc: "Chinese (simplified)",
};

const tables = new Map();

async function table(name) {
  if (!tables.has(name)) {
    const answer = await fetch(new URL(`keymaps/${name}.json`, import.meta.url));
    if (!answer.ok) throw new Error(`key table ${name} cannot be loaded: HTTP ${answer.status}`);
    tables.set(name, await answer.json());
  }
  return tables.get(name);
}

export const isLayout = (name) => Object.hasOwn(LAYOUTS, name);

export async function loadLayout(name) {
  const [own, us] = await Promise.all([table(name), table("us")]);
  return new Layout(name, own, us);
}
