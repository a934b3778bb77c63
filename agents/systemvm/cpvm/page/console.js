// SPDX-License-Identifier: Apache-2.0
// The console's page. It first removes the token from the address bar, then spends it by a POST to its own origin.
// Stock noVNC shows the screen, toolbar.js what surrounds it.

import { Power } from "./power.js";

const STORAGE_KEY = "console";
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 10_000;
// Attempts to reach a console proxy that does not respond: about ten minutes.
const UNREACHABLE_RETRIES = 60;
const HttpStatus = { CONFLICT: 409, SERVICE_UNAVAILABLE: 503 };
// Close codes with a meaning of their own here. A test compares them with CloseCode and BrowserRefusal in Python;
// a browser reports ABNORMAL_CLOSURE itself when a connection is lost (RFC 6455, section 7.4.1).
const CloseCode = {
  NORMAL: 1000,
  GOING_AWAY: 1001,
  ABNORMAL_CLOSURE: 1006,
  MACHINE_STOPPED: 4409,
  SCREEN_CLOSED: 4410,
  MACHINE_STOPPING: 4411,
  MACHINE_STARTING: 4412,
  CONTINUED_ELSEWHERE: 4418,
  RECONNECTING: 4419,
  SCREEN_MOVED: 4427,
  TOO_MANY: 4429,
  SERIAL_CLOSED: 4430,
  SCREEN_UNREACHABLE: 4502,
  DAEMON_AWAY: 4503,
  SCREEN_SILENT: 4504,
  SERIAL_UNREACHABLE: 4507,
};
// What is said about a serial port, for its terminal.
const SERIAL_NOTICES = new Set(["serial", "answers"]);
// Codes from here on are the console's own refusals, and from the second one faults of the server.
const FIRST_REFUSAL = 4000;
const FIRST_SERVER_FAULT = 4500;

// the path of this module, wherever the console is advertised
const base = new URL(".", import.meta.url).pathname;
const query = new URLSearchParams(location.search);
const token = query.get("token");
const extra = query.get("extra") ?? "";
// with it this page, and nobody else, can ask again when the answer to its token is lost
const pageNumber = crypto.randomUUID();
const keyboard = query.get("language") ?? ""; // CloudStack's name of the layout of the link
history.replaceState(null, "", `${base}console`);

const element = (id) => document.getElementById(id);
let session = null;
let rfb = null;
let toolbar = null;
new Power(base, () => session);
// what cannot be loaded now is reported when the console connects
import("./toolbar.js").then((loaded) => { toolbar = loaded; }, () => {});
let retries = 0;
let retryTimer = 0;
let warning = null;
// whether the console proxy has another address now: this page cannot come back to its session from the old one
let hasMoved = false;

function show(state, label, title = "", hint = "", canRetry = false) {
  document.body.dataset.state = state;
  element("state-text").textContent = label;
  element("notice-title").textContent = title;
  element("notice-hint").textContent = hint;
  element("notice-again").hidden = !canRetry;
  element("again").disabled = hasMoved || !(canRetry || state === "connected");
  for (const id of ["keys", "key-menu-button", "clipboard-button", "picture"]) element(id).disabled = state !== "connected";
}

function showName(name) {
  element("name").textContent = name;
  document.title = `${name} – console`;
}

// The console proxy enforces the policy; the page only shows it, and sends nothing that would be dropped.
function showPolicy({ policy, recorded, watches }) {
  const { view_only: viewOnly, clipboard_to_guest: toGuest, clipboard_from_guest: fromGuest } = policy ?? {};
  const sends = toGuest !== false && !viewOnly;
  const limits = recorded ? ["Recorded"] : [];
  if (viewOnly && !watches) limits.push("View only");
  if (watches) limits.push("You watch another user's console");
  else if (!sends && fromGuest === false) limits.push("No clipboard");
  else if (!sends && !viewOnly) limits.push("Clipboard only from the machine");
  else if (fromGuest === false) limits.push("Clipboard only to the machine");
  element("policy").textContent = limits.join(" · ");
  element("policy").hidden = limits.length === 0;
  element("power-button").disabled = false;
  element("power-button").hidden = Boolean(viewOnly);
}

async function spend() {
  let answer;
  try {
    answer = await fetch(`${base}console`, {
      method: "POST",
      headers: { Accept: "application/json" },
      body: new URLSearchParams({ cmd: "auth", token, extra, page: pageNumber }),
      credentials: "same-origin",
      cache: "no-store",
    });
  } catch {
    show("closed", "Closed", "The console proxy cannot be reached", "Check the network, then press Reconnect.", true);
    return false;
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    // Without a running VM or a reachable daemon the token is not spent: it stays valid until it expires.
    const { CONFLICT, SERVICE_UNAVAILABLE } = HttpStatus;
    if (answer.status === CONFLICT || answer.status === SERVICE_UNAVAILABLE) retry(body.title, body.hint);
    else show("closed", "Refused", body.title ?? "The console was refused", body.hint ?? "");
    return false;
  }
  const { session: id, name, policy = {}, recorded = false, watches = false, kind = "screen" } = body;
  session = { id, name, policy, recorded, watches, keyboard, kind };
  sessionStorage.setItem(STORAGE_KEY, JSON.stringify(session));
  return true;
}

async function open() {
  if (token && !session) {
    if (document.body.dataset.state !== "waiting") {
      show("opening", "Opening", "Opening the console", "The link is being checked.");
    }
    if (!(await spend())) return;
  }
  if (!session) {
    show("closed", "No console", "This address does not contain a console link",
         "Open the console from the cloud's page. A link works once, for a short time.");
    return;
  }
  showName(session.name);
  showPolicy(session);
  await connect();
}

async function connect() {
  const isSerial = session.kind === "serial";
  // in the state "waiting" the notice stays, so that it does not flicker with every attempt
  if (document.body.dataset.state !== "waiting") {
    const opened = isSerial ? "serial port" : "screen";
    show("connecting", "Connecting", `Connecting to ${session.name}`, `The virtual machine's ${opened} is being opened.`);
  }
  let Screen;
  try {
    const view = isSerial ? import("./terminal.js") : import("./screen.js");
    [{ default: Screen }, toolbar] = await Promise.all([view, import("./toolbar.js")]);
  } catch {
    show("closed", "Closed", "The console could not be loaded", "Reload this page.", true);
    return;
  }
  const url = `wss://${location.host}${base}websockify?session=${encodeURIComponent(session.id)}`;
  const socket = new WebSocket(url, "binary");
  let end = null;
  // Text is for this page, everything else for noVNC, whose listener is added later.
  socket.addEventListener("message", (event) => {
    if (typeof event.data !== "string") return;
    event.stopImmediatePropagation();
    const message = JSON.parse(event.data);
    if (SERIAL_NOTICES.has(message.notice)) rfb?.notice(message);
    else notice(message);
  });
  socket.addEventListener("close", (event) => { end = event; });

  element("screen").replaceChildren();
  rfb = new Screen(element("screen"), socket, { shared: true, name: session.name, policy: session.policy ?? {} });
  rfb.viewOnly = Boolean(session.policy?.view_only);
  rfb.focusOnClick = true;
  rfb.background = "transparent";
  toolbar.begin(session);
  if (!isSerial) toolbar.attach(rfb);
  rfb.addEventListener("connect", () => {
    retries = 0;
    show("connected", "Connected");
    rfb.focus({ preventScroll: true });
  });
  rfb.addEventListener("desktopname", (event) => showName(event.detail.name));
  const current = rfb;
  rfb.addEventListener("disconnect", () => {
    if (current === rfb) ended(end);
  });
}

// Close codes after which the page reconnects by itself, each time later; refusal.py lists the same refusals.
const RECONNECTS = "The console reconnects when the virtual machine runs.";
const TRANSIENT = {
  [CloseCode.GOING_AWAY]: "The console proxy is restarting. Reconnecting.",
  [CloseCode.ABNORMAL_CLOSURE]: "The console proxy cannot be reached. Reconnecting.",
  [CloseCode.MACHINE_STOPPED]: `Start it on the cloud's page. ${RECONNECTS}`,
  [CloseCode.SCREEN_CLOSED]: `It might have stopped or restarted. ${RECONNECTS}`,
  [CloseCode.MACHINE_STOPPING]: RECONNECTS,
  [CloseCode.MACHINE_STARTING]: RECONNECTS,
  [CloseCode.SCREEN_UNREACHABLE]: "Reconnecting.",
  [CloseCode.DAEMON_AWAY]: "Reconnecting.",
  [CloseCode.SCREEN_SILENT]: "Reconnecting.",
  [CloseCode.RECONNECTING]: "Reconnecting.",
  [CloseCode.SCREEN_MOVED]: "Reconnecting.",
  [CloseCode.SERIAL_CLOSED]: `It might have stopped or restarted. ${RECONNECTS}`,
  [CloseCode.SERIAL_UNREACHABLE]: "Reconnecting.",
};
const OPEN_AGAIN = "Open the console again from the cloud's page.";
const HINTS = {
  [CloseCode.NORMAL]: "Press Reconnect to open the console again.",
  [CloseCode.GOING_AWAY]: "Press Reconnect to try again.",
  [CloseCode.ABNORMAL_CLOSURE]: "Check the network, then press Reconnect.",
  [CloseCode.CONTINUED_ELSEWHERE]: "Close that window, or press Reconnect to continue here.",
  [CloseCode.TOO_MANY]: "Close one that you do not need, then press Reconnect.",
};

function ended(end) {
  const code = end?.code ?? CloseCode.ABNORMAL_CLOSURE;
  const isLost = code === CloseCode.ABNORMAL_CLOSURE;
  const title = end?.reason || (isLost ? "The connection was lost" : "The console was closed");
  const unreachable = isLost || code === CloseCode.GOING_AWAY;
  rfb = null;
  toolbar.detach();
  hideWarning();
  element("watched").hidden = true;
  if (hasMoved && Object.hasOwn(TRANSIENT, code)) {
    show("closed", "Closed", title, `The console proxy has another address now. ${OPEN_AGAIN}`);
    return;
  }
  if (Object.hasOwn(TRANSIENT, code) && !(unreachable && retries >= UNREACHABLE_RETRIES)) {
    retry(title, TRANSIENT[code]);
    return;
  }
  const known = Object.hasOwn(HINTS, code);
  const isServerFault = code >= FIRST_SERVER_FAULT;
  const hint = known ? HINTS[code] : isServerFault ? "Wait a moment, then press Reconnect." : OPEN_AGAIN;
  show("closed", "Closed", title, hint, known || isServerFault || code < FIRST_REFUSAL);
}

function retry(title, hint) {
  show("waiting", "Waiting", title ?? "The console is not available", hint ?? "Reconnecting.", true);
  const delay = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** retries);
  retries += 1;
  clearTimeout(retryTimer);
  // jitter: the consoles of a lost proxy do not all reconnect at once
  retryTimer = setTimeout(open, delay * (0.75 + Math.random() / 2));
}

// What the console proxy says about this session: who watches it, and before a timeout ends it.
function notice(message) {
  if (message.notice === "unrecorded" || message.notice === "recorded") {
    showPolicy({ ...session, recorded: message.notice === "recorded" });
    return;
  }
  if (message.notice === "watched" || message.notice === "unwatched") {
    element("watched").hidden = message.notice !== "watched";
    return;
  }
  if (message.notice === "moved" || message.notice === "unmoved") {
    hasMoved = message.notice === "moved";
    element("again").disabled = hasMoved;
    return;
  }
  clearInterval(warning);
  if (message.notice !== "idle" && message.notice !== "over") {
    hideWarning();
    return;
  }
  const endsAt = Date.now() + message.ends_in_s * 1_000;
  const isIdle = message.notice === "idle";
  const because = isIdle ? "because it is not used" : "because the time of this session is over";
  const update = () => {
    const left = Math.max(0, Math.round((endsAt - Date.now()) / 1_000));
    element("warning-text").textContent = `This console closes in ${left} s ${because}.`;
  };
  update();
  warning = setInterval(update, 1_000);
  element("stay").hidden = !isIdle;
  element("warning").hidden = false;
}

function hideWarning() {
  clearInterval(warning);
  element("warning").hidden = true;
}

async function stay() {
  const form = new URLSearchParams({ cmd: "stay", session: session.id });
  const headers = { Accept: "application/json" };
  const request = { method: "POST", headers, body: form, credentials: "same-origin", cache: "no-store" };
  const answer = await fetch(`${base}console`, request).catch(() => null);
  if (answer?.ok) hideWarning();
  rfb?.focus();
}

function again() {
  retries = 0;
  clearTimeout(retryTimer);
  const old = rfb;
  rfb = null;
  toolbar?.detach();
  old?.disconnect();
  open();
}

element("stay").addEventListener("click", stay);
// the network is back: do not wait for the next attempt
window.addEventListener("online", () => {
  if (document.body.dataset.state === "waiting") again();
});
element("again").addEventListener("click", again);
element("notice-again").addEventListener("click", again);

if (!token) {
  try {
    session = JSON.parse(sessionStorage.getItem(STORAGE_KEY));
  } catch {
    session = null;
  }
}
open();
