// SPDX-License-Identifier: Apache-2.0
// Shows the recording of a serial port in stock xterm.js, which the daemon's host has beside the images.

import { RecordingError } from "./recording_file.js";
import "./xterm_styles.js";

const SCROLLBACK_LINES = 5_000;
const FONT = 'ui-monospace, "DejaVu Sans Mono", "Liberation Mono", Menlo, Consolas, monospace';
// A cancelled sequence, then a full reset: what comes next is shown as by a new terminal.
const RESET = "\x18\x1bc";

async function stock() {
  try {
    return await import("./xterm.mjs");
  } catch {
    throw new RecordingError("This host has no xterm.js, which shows recordings of serial ports. Use: systemvm console export ID boot.txt");
  }
}

function loadStyles() {
  return new Promise((resolve, reject) => {
    const link = document.createElement("link");
    Object.assign(link, { rel: "stylesheet", href: new URL("./xterm.css", import.meta.url), onload: resolve, onerror: reject });
    document.head.append(link);
  });
}

let loading = null; // one terminal shows all recordings

async function terminalIn(parent, { width, height }) {
  const [{ Terminal }] = await Promise.all([stock(), loadStyles()]);
  const terminal = new Terminal({
    cols: width,
    rows: height,
    disableStdin: true,
    fontFamily: FONT,
    fontSize: 14,
    linkHandler: { activate() {} }, // the guest chose where it leads
    minimumContrastRatio: 4.5,
    screenReaderMode: true,
    scrollback: SCROLLBACK_LINES,
  });
  terminal.open(parent);
  return terminal;
}

export class RecordingTerminal {
  // Return what shows a recording from its beginning.
  static async begin(parent, about) {
    parent.setAttribute("aria-label", `Serial port of ${about.title}`);
    loading ??= terminalIn(parent, about);
    try {
      return new RecordingTerminal(await loading, about);
    } catch (error) {
      loading = null;
      throw error;
    }
  }

  constructor(terminal, { width, height }) {
    this.terminal = terminal;
    terminal.resize(width, height);
    terminal.write(RESET); // behind what the player before this one has written
  }

  // What follows is missing: the next bytes can begin within a sequence, and stand on a line of their own.
  skip() {
    this.terminal.write("\x18\r\n");
  }

  feed(bytes) {
    return new Promise((resolve) => { this.terminal.write(bytes, resolve); });
  }
}
