// SPDX-License-Identifier: Apache-2.0
// A virtual machine's serial port in stock xterm.js, with those events and methods of noVNC's RFB that the page uses.

import { Terminal } from "./xterm/lib/xterm.mjs";
import { FitAddon } from "./xterm-fit/lib/addon-fit.mjs";
import "./xterm_styles.js";

const SCROLLBACK_LINES = 5_000;
const MESSAGE_BYTES = 16 * 1024;
const FONT_PX = { smallest: 8, usual: 14, largest: 32 };
const FONT = 'ui-monospace, "DejaVu Sans Mono", "Liberation Mono", Menlo, Consolas, monospace';

const DARK = {
  background: "#0d1017", foreground: "#e8ecf5", cursor: "#7f9bff", cursorAccent: "#0d1017", selectionBackground: "#35426e",
  black: "#262e3d", red: "#ff7887", green: "#3ddba4", yellow: "#f2bd4b", blue: "#7f9bff", magenta: "#d79bff",
  cyan: "#5fd4e6", white: "#c6cedd", brightBlack: "#6d7890", brightRed: "#ff9aa5", brightGreen: "#72edc0",
  brightYellow: "#f8d27e", brightBlue: "#a5b9ff", brightMagenta: "#e6bfff", brightCyan: "#92e6f3", brightWhite: "#ffffff",
};
const LIGHT = {
  background: "#ffffff", foreground: "#1c2333", cursor: "#3556d8", cursorAccent: "#ffffff", selectionBackground: "#c9d4fb",
  black: "#1c2333", red: "#b02a3a", green: "#0b7a52", yellow: "#8a5d00", blue: "#3556d8", magenta: "#8a35b8",
  cyan: "#0b7285", white: "#5d687f", brightBlack: "#5d687f", brightRed: "#cf3a4b", brightGreen: "#0f9d6b",
  brightYellow: "#a87304", brightBlue: "#4a6cf0", brightMagenta: "#a24fd0", brightCyan: "#0e8ca3", brightWhite: "#39435a",
};
// The queries of programs that a terminal answers: cursor position, kind of terminal, modes, settings, size, colours.
const CSI_QUERIES = [
  { final: "n" }, { prefix: "?", final: "n" }, { final: "c" }, { prefix: ">", final: "c" }, { prefix: "=", final: "c" },
  { prefix: ">", final: "q" }, { intermediates: "$", final: "p" }, { prefix: "?", intermediates: "$", final: "p" },
  { final: "t" },
];
const DCS_QUERIES = [{ intermediates: "$", final: "q" }, { intermediates: "+", final: "q" }];
const OSC_COLOURS = [4, 10, 11, 12];

async function loadStyles(...paths) {
  await Promise.all(paths.map((path) => new Promise((resolve, reject) => {
    const link = document.createElement("link");
    Object.assign(link, { rel: "stylesheet", href: new URL(path, import.meta.url), onload: resolve, onerror: reject });
    document.head.append(link);
  })));
}
await loadStyles("./xterm/css/xterm.css", "./terminal.css");

export default class SerialTerminal extends EventTarget {
  #socket;
  #terminal;
  #fit = new FitAddon();
  #policy;
  #answers = false;
  #oldBytes = 0; // of what comes next, how much is older than this console
  #resized;
  #scheme = matchMedia("(prefers-color-scheme: dark)");
  #chosen = new MutationObserver(() => this.#recolour());
  #recolour = () => { this.#terminal.options.theme = this.#theme; };

  constructor(parent, socket, { name = "", policy = {} } = {}) {
    super();
    this.#socket = socket;
    this.#policy = policy;
    this.#terminal = new Terminal({
      disableStdin: Boolean(policy.view_only),
      fontFamily: FONT,
      fontSize: FONT_PX.usual,
      macOptionIsMeta: true,
      minimumContrastRatio: 4.5,
      screenReaderMode: true,
      scrollback: SCROLLBACK_LINES,
      theme: this.#theme,
    });
    this.#scheme.addEventListener("change", this.#recolour);
    this.#chosen.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    const frame = document.createElement("div");
    frame.className = "serial";
    const view = document.createElement("div");
    view.className = "serial-view";
    view.setAttribute("role", "group");
    view.setAttribute("aria-label", `Serial port of ${name}`);
    frame.append(this.#toolbar(), view);
    parent.append(frame);
    this.#terminal.loadAddon(this.#fit);
    this.#terminal.open(view);
    this.#terminal.textarea.setAttribute("aria-label", `Input to the serial port of ${name}`);
    this.#restrict(view);
    this.#silenceQueries();
    this.#terminal.attachCustomKeyEventHandler((event) => this.#isForGuest(event));
    this.#terminal.onData((text) => this.#send(new TextEncoder().encode(text)));
    this.#terminal.onBinary((text) => this.#send(Uint8Array.from(text, (each) => each.charCodeAt(0) & 255)));
    this.#resized = new ResizeObserver(() => this.#fit.fit());
    this.#resized.observe(view);
    socket.binaryType = "arraybuffer";
    socket.addEventListener("message", (event) => this.#received(new Uint8Array(event.data)));
    socket.addEventListener("close", () => this.#closed());
  }

  // What the console proxy says about the port: text messages, which come before the bytes that they are about.
  notice(message) {
    if (message.notice === "answers") {
      this.#answers = true;
      return;
    }
    this.#oldBytes = message.scrollback;
    this.#answers = message.answers;
    this.dispatchEvent(new Event("connect"));
  }

  // the colours that the page has, by the device or by the user's choice
  get #theme() {
    const { theme } = document.documentElement.dataset;
    const isDark = theme === "dark" || (theme !== "light" && this.#scheme.matches);
    return isDark ? DARK : LIGHT;
  }

  focus() {
    this.#terminal.focus();
  }

  disconnect() {
    this.#socket.close();
  }

  // What a person who looks on can read, for the page's own tools.
  text() {
    const buffer = this.#terminal.buffer.active;
    const lines = Array.from({ length: buffer.length }, (_, at) => buffer.getLine(at).translateToString(true));
    return lines.join("\n").trimEnd();
  }

  #received(bytes) {
    const old = bytes.subarray(0, this.#oldBytes);
    this.#oldBytes -= old.length;
    // The screen keeps its old bytes' queries unanswered until they are parsed, which is later.
    if (old.length) this.#terminal.write(old, () => { this.#parsedOld += old.length; });
    this.#writtenOld += old.length;
    if (old.length < bytes.length) this.#terminal.write(bytes.subarray(old.length));
  }

  #writtenOld = 0;
  #parsedOld = 0;

  get #isSilent() {
    return !this.#answers || this.#parsedOld < this.#writtenOld || this.#oldBytes > 0;
  }

  #silenceQueries() {
    const { parser } = this.#terminal;
    for (const query of CSI_QUERIES) parser.registerCsiHandler(query, () => this.#isSilent);
    for (const query of DCS_QUERIES) parser.registerDcsHandler(query, () => this.#isSilent);
    for (const code of OSC_COLOURS) parser.registerOscHandler(code, (text) => this.#isSilent && text.split(";").at(-1) === "?");
  }

  #send(bytes) {
    if (this.#policy.view_only || this.#socket.readyState !== WebSocket.OPEN) return;
    for (let at = 0; at < bytes.length; at += MESSAGE_BYTES) this.#socket.send(bytes.subarray(at, at + MESSAGE_BYTES));
  }

  get #mayPaste() {
    return this.#policy.clipboard_to_guest !== false && !this.#policy.view_only;
  }

  get #mayCopy() {
    return this.#policy.clipboard_from_guest !== false;
  }

  #restrict(view) {
    const forbid = (event) => {
      event.preventDefault();
      event.stopImmediatePropagation();
    };
    if (!this.#mayPaste) view.addEventListener("paste", forbid, { capture: true });
    if (this.#mayCopy) return;
    view.addEventListener("copy", forbid, { capture: true });
    view.classList.add("no-selection");
    this.#terminal.onSelectionChange(() => {
      if (this.#terminal.hasSelection()) this.#terminal.clearSelection();
    });
  }

  // Ctrl-C and Ctrl-V belong to the guest; with Shift, or as Ctrl-Insert and Shift-Insert, they are the clipboard's.
  #isForGuest(event) {
    const { code, ctrlKey, shiftKey } = event;
    const copies = (ctrlKey && shiftKey && code === "KeyC") || (ctrlKey && !shiftKey && code === "Insert");
    const pastes = (ctrlKey && shiftKey && code === "KeyV") || (shiftKey && !ctrlKey && code === "Insert");
    if (!copies && !pastes) return true;
    if (event.type === "keydown") {
      if (copies) this.copy();
      else this.paste();
    }
    event.preventDefault();
    return false;
  }

  async copy() {
    if (!this.#mayCopy || !this.#terminal.hasSelection()) return;
    await navigator.clipboard.writeText(this.#terminal.getSelection()).catch(() => {});
    this.focus();
  }

  async paste() {
    if (!this.#mayPaste) return;
    const text = await navigator.clipboard.readText().catch(() => "");
    if (text) this.#terminal.paste(text);
    this.focus();
  }

  #zoom(step) {
    const { smallest, largest } = FONT_PX;
    this.#terminal.options.fontSize = Math.min(largest, Math.max(smallest, this.#terminal.options.fontSize + step));
    this.#fit.fit();
  }

  #tellSize() {
    const { rows, cols } = this.#terminal;
    this.#send(new TextEncoder().encode(`stty rows ${rows} cols ${cols}\r`));
    this.focus();
  }

  #toolbar() {
    const bar = document.createElement("div");
    bar.className = "serial-bar";
    bar.setAttribute("role", "toolbar");
    bar.setAttribute("aria-label", "Terminal");
    const add = (label, title, action, isOffered = true) => {
      if (!isOffered) return;
      const button = document.createElement("button");
      Object.assign(button, { type: "button", textContent: label, title });
      button.addEventListener("click", action);
      bar.append(button);
    };
    add("Copy", "Copy the selected text (Ctrl-Shift-C)", () => this.copy(), this.#mayCopy);
    add("Paste", "Type the text of the clipboard (Ctrl-Shift-V)", () => this.paste(), this.#mayPaste);
    add("Tell size", "Type the command that tells the guest's shell the size of this terminal", () => this.#tellSize(),
        !this.#policy.view_only);
    add("Smaller", "Show smaller text", () => this.#zoom(-1));
    add("Larger", "Show larger text", () => this.#zoom(1));
    return bar;
  }

  #closed() {
    this.#resized.disconnect();
    this.#scheme.removeEventListener("change", this.#recolour);
    this.#chosen.disconnect();
    this.dispatchEvent(new Event("disconnect"));
  }
}
