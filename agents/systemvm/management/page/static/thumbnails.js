// SPDX-License-Identifier: Apache-2.0
// A small live picture of each running machine's screen. Only those that are visible are fetched, one at a time, and a
// picture that has not changed is not sent again.

import { call, loggedIn } from "./api.js";
import { element } from "./elements.js";

const EVERY_MS = 5_000;
const AFTER_ERROR_MS = 30_000; // it runs on another host, or has no screen
const TICK_MS = 500;

const visible = new Set();
const pictures = new Map(); // by machine: {hash, bitmap, due}
const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) visible.add(target);
    else visible.delete(target);
  }
});
let timer = 0;

function paint(canvas, bitmap) {
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  canvas.dataset.shown = "true";
}

// A button that shows the screen, and opens the console.
export function thumbnail(vm) {
  const canvas = element("canvas", { data: { machine: vm.id } });
  const known = pictures.get(vm.id)?.bitmap;
  if (known) paint(canvas, known);
  observer.observe(canvas);
  if (!timer) timer = setTimeout(tick, TICK_MS);
  const name = vm.displayname ?? vm.name;
  return element("button", { type: "button", className: "thumbnail", title: `View the console of ${name}`, ariaLabel: `Screen of ${name}`,
    data: { action: "console", target: vm.id, name: vm.name } }, canvas);
}

async function fetchPicture(id) {
  const before = pictures.get(id) ?? {};
  try {
    const { consolethumbnail: { hash, image } } = await call("createConsoleThumbnail",
      { virtualmachineid: id, ...(before.hash ? { hash: before.hash } : {}) });
    let { bitmap } = before;
    if (image) {
      const content = Uint8Array.from(atob(image), (character) => character.charCodeAt(0));
      bitmap = await createImageBitmap(new Blob([content], { type: "image/png" }));
      for (const canvas of visible) {
        if (canvas.dataset.machine === id) paint(canvas, bitmap);
      }
    }
    pictures.set(id, { hash, bitmap, due: performance.now() + EVERY_MS });
  } catch {
    pictures.set(id, { ...before, due: performance.now() + AFTER_ERROR_MS });
  }
}

async function tick() {
  for (const canvas of visible) {
    if (canvas.isConnected) continue;
    visible.delete(canvas);
    observer.unobserve(canvas);
  }
  const due = (canvas) => pictures.get(canvas.dataset.machine)?.due ?? 0;
  const [next] = [...visible].sort((a, b) => due(a) - due(b));
  if (next && !document.hidden && loggedIn() && due(next) <= performance.now()) await fetchPicture(next.dataset.machine);
  timer = visible.size ? setTimeout(tick, TICK_MS) : 0;
}
