// SPDX-License-Identifier: Apache-2.0
// The keyboard layouts that a guest can have, by CloudStack's names; the console's page has the same (layouts.js).

export const KEYBOARDS = {
  us: "English (US)", uk: "English (UK)", de: "German", "de-ch": "German (Switzerland)", es: "Spanish", fi: "Finnish",
  fr: "French", "fr-be": "French (Belgium)", "fr-ch": "French (Switzerland)", is: "Icelandic", it: "Italian", jp: "Japanese",
  "nl-be": "Dutch (Belgium)", no: "Norwegian", pt: "Portuguese", sc: "Chinese (simplified)",
};
