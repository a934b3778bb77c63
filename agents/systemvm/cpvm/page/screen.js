// SPDX-License-Identifier: Apache-2.0
// Stock noVNC, whose keys go through the guest's layout. `sendKey` is noVNC's public way to send any key, and its own
// keyboard uses it, too.
//
// `_screenSize` is not public. noVNC compares a size with fractions, which the buttons' text and the browser's zoom make,
// with the guest's whole pixels: they are never the same, and it asks for another size ten times a second.

import RFB from "./novnc/core/rfb.js";

export default class Screen extends RFB {
  translator = null;

  sendKey(keysym, code, down) {
    if (down === undefined) {
      this.sendKey(keysym, code, true);
      this.sendKey(keysym, code, false);
      return;
    }
    this.sendEvents(this.translator ? this.translator.translate(keysym, code, down) : [[keysym, code, down]]);
    this.dispatchEvent(new CustomEvent("key", { detail: { code, down } }));
  }

  _screenSize() {
    const { w, h } = super._screenSize();
    return { w: Math.floor(w), h: Math.floor(h) };
  }

  // Send keys of the guest, as [keysym, code, down].
  sendEvents(events) {
    for (const [keysym, code, down] of events) super.sendKey(keysym, code, down);
  }
}
