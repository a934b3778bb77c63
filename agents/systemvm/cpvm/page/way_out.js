// SPDX-License-Identifier: Apache-2.0
// The way out of the screen without a mouse: it takes every key, so Ctrl, Alt and Shift, pressed together and released
// with no other key in between, lead to the buttons.

const WANTED = ["Control", "Alt", "Shift"];

export function wireWayOut(leave) {
  const down = new Set();
  let isWanted = false;
  // captured, because the screen's own handler lets no key through
  document.addEventListener("keydown", ({ key }) => {
    if (!WANTED.includes(key)) {
      down.clear();
      isWanted = false;
      return;
    }
    down.add(key);
    isWanted = down.size === WANTED.length;
  }, { capture: true });
  document.addEventListener("keyup", ({ key }) => {
    const leaves = isWanted && WANTED.includes(key);
    down.delete(key);
    isWanted = false;
    // after the screen's handler, so that the guest's key is released, too
    if (leaves) setTimeout(leave);
  }, { capture: true });
}
