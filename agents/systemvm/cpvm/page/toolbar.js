// SPDX-License-Identifier: Apache-2.0
// What surrounds the screen: keys, clipboard, power, preferences, screenshot, full screen.

import { Clipboard } from "./clipboard.js";
import { wireDeviceKeyboard } from "./device_keyboard.js";
import { fillKeyMenu, KeyBar } from "./key_menu.js";
import { KeyTranslator } from "./keyboard.js";
import { isLayout, LAYOUTS, loadLayout } from "./layouts.js";
import { layoutOf, prefer, preferLayout, preferences, QUALITY } from "./preferences.js";
import { wireWayOut } from "./way_out.js";

// the guest has the layout of the user's keyboard: keys are sent by their places
const AS_PRESSED = "";
const FALLBACK = "us";
const LAYOUT_RETRY_MS = 2_000;

const element = (id) => document.getElementById(id);
let screen = null;
let machine = "";
let given = null; // the layout of the link
let layoutTimer = 0;

const chosen = () => layoutOf(machine) ?? given ?? AS_PRESSED;
const layout = () => loadLayout(chosen() || (isLayout(given) ? given : FALLBACK));
const clipboard = new Clipboard(() => screen, layout);
const showKeyboard = wireDeviceKeyboard(element("device-keyboard"), layout, (events) => {
  screen?.sendEvents(events);
  bar.releaseModifiers();
});
const bar = new KeyBar(element("bar"), () => screen, showKeyboard);

async function applyLayout() {
  const name = chosen();
  element("layout").value = name;
  const current = screen;
  let translator = null;
  clearTimeout(layoutTimer);
  try {
    if (name !== AS_PRESSED) translator = new KeyTranslator(await loadLayout(name));
    element("layout-state").textContent = "";
  } catch {
    element("layout-state").textContent = "This keyboard layout cannot be loaded: keys are sent as before. Trying again.";
    layoutTimer = setTimeout(applyLayout, LAYOUT_RETRY_MS);
    return;
  }
  if (!current || current !== screen || name !== chosen()) return;
  current.translator = translator;
  document.body.dataset.layout = name; // of the keys that are pressed from now on
}

function apply() {
  document.documentElement.dataset.theme = preferences.theme;
  document.body.dataset.bar = preferences.bar;
  for (const name of Object.keys(preferences)) {
    const choice = element("preferences").querySelector(`[name=${name}]`);
    if (choice) choice.value = preferences[name];
  }
  if (!screen) return;
  const [quality, compression] = QUALITY[preferences.quality];
  screen.qualityLevel = quality;
  screen.compressionLevel = compression;
  screen.showDotCursor = preferences.dot === "yes";
  screen.scaleViewport = preferences.scale !== "actual";
  screen.resizeSession = preferences.scale === "resize";
}

// A session begins: what its link and its policy say.
export function begin({ name, policy = {}, keyboard, kind }) {
  machine = name;
  given = isLayout(keyboard) ? keyboard : null;
  clipboard.permit(policy);
  for (const id of ["keys", "key-menu-button", "bar", "clipboard-button"]) {
    element(id).hidden = Boolean(policy.view_only) || kind === "serial";
  }
  // a terminal has its own buttons, and no screen
  element("picture").hidden = kind === "serial";
  applyLayout();
}

// noVNC was made, and is going to connect.
export function attach(made) {
  screen = made;
  const canvas = element("screen").querySelector("canvas");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", `Screen of ${machine}. Ctrl-Alt-Shift leaves it.`);
  bar.attach(made);
  clipboard.attach(made);
  apply();
  applyLayout();
}

export function detach() {
  screen = null;
}

function saveScreenshot() {
  screen?.toBlob((picture) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(picture);
    link.download = `${machine}-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }, "image/png");
}

async function toggleFullScreen() {
  if (document.fullscreenElement) {
    await document.exitFullscreen();
    return;
  }
  await document.documentElement.requestFullscreen();
  // Where the browser supports it, Escape and Alt-Tab go to the guest; holding Escape leaves full screen.
  await navigator.keyboard?.lock?.().catch(() => {});
  screen?.focus();
}

element("layout").append(
  new Option("As pressed: the guest has my layout", AS_PRESSED),
  ...Object.entries(LAYOUTS).map(([name, label]) => new Option(label, name)),
);
element("layout").addEventListener("change", (event) => {
  preferLayout(machine, event.target.value);
  applyLayout();
});
element("preferences").addEventListener("change", ({ target }) => {
  if (!target.name) return;
  prefer(target.name, target.value);
  apply();
});
fillKeyMenu(element("key-menu"), () => screen);
element("keys").addEventListener("click", () => {
  screen?.sendCtrlAltDel();
  screen?.focus();
});
element("picture").addEventListener("click", saveScreenshot);
element("full").addEventListener("click", toggleFullScreen);
wireWayOut(() => {
  bar.releaseModifiers();
  element("keys").hidden ? element("full").focus() : element("keys").focus();
});
apply();
