// SPDX-License-Identifier: Apache-2.0
// The console's page. It first removes the token from the address bar, then spends it by a POST to its own origin.
// Stock noVNC shows the screen.

const STORAGE_KEY = "console";
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 10_000;
// Attempts to reach a console proxy that does not respond: about ten minutes.
const UNREACHABLE_RETRIES = 60;

// the path of this module, wherever the console is advertised
const base = new URL(".", import.meta.url).pathname;
const query = new URLSearchParams(location.search);
const token = query.get("token");
history.replaceState(null, "", `${base}console`);

const element = (id) => document.getElementById(id);
let session = null;
let rfb = null;
let retries = 0;
let retryTimer = 0;

function show(state, label, title = "", hint = "", canRetry = false) {
  document.body.dataset.state = state;
  element("state-text").textContent = label;
  element("notice-title").textContent = title;
  element("notice-hint").textContent = hint;
  element("notice-again").hidden = !canRetry;
  element("again").disabled = !(canRetry || state === "connected");
  element("keys").disabled = state !== "connected";
}

function showName(name) {
  element("name").textContent = name;
  document.title = `${name} – console`;
}

async function spend() {
  let answer;
  try {
    answer = await fetch(`${base}console`, {
      method: "POST",
      headers: { Accept: "application/json" },
      body: new URLSearchParams({ cmd: "auth", token }),
      credentials: "same-origin",
      cache: "no-store",
    });
  } catch {
    show("closed", "Closed", "The console proxy cannot be reached", "Check the network, then press Reconnect.", true);
    return false;
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    // 409 (VM not running) and 503 (daemon unreachable) do not spend the token: it stays valid until it expires.
    if ([409, 503].includes(answer.status)) retry(body.title, body.hint);
    else show("closed", "Refused", body.title ?? "The console was refused", body.hint ?? "");
    return false;
  }
  session = { id: body.session, name: body.name };
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
  await connect();
}

async function connect() {
  // in the state "waiting" the notice stays, so that it does not flicker with every attempt
  if (document.body.dataset.state !== "waiting") {
    show("connecting", "Connecting", `Connecting to ${session.name}`, "The virtual machine's screen is being opened.");
  }
  let RFB;
  try {
    ({ default: RFB } = await import("./novnc/core/rfb.js"));
  } catch {
    show("closed", "Closed", "The console could not be loaded", "Reload this page.", true);
    return;
  }
  const url = `wss://${location.host}${base}websockify?session=${encodeURIComponent(session.id)}`;
  const socket = new WebSocket(url, "binary");
  let end = null;
  socket.addEventListener("close", (event) => { end = event; });

  element("screen").replaceChildren();
  rfb = new RFB(element("screen"), socket, { shared: true });
  rfb.scaleViewport = true;
  rfb.focusOnClick = true;
  rfb.background = "transparent";
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

// Close codes after which the page reconnects by itself, each time later; refusal.py lists the same from 4000 on.
const RECONNECTS = "The console reconnects when the virtual machine runs.";
const TRANSIENT = {
  1001: "The console proxy is restarting. Reconnecting.",
  1006: "The console proxy cannot be reached. Reconnecting.",
  4409: `Start it on the cloud's page. ${RECONNECTS}`,
  4410: `It might have stopped or restarted. ${RECONNECTS}`,
  4411: RECONNECTS,
  4412: RECONNECTS,
  4502: "Reconnecting.",
  4503: "Reconnecting.",
  4504: "Reconnecting.",
};
const OPEN_AGAIN = "Open the console again from the cloud's page.";
const HINTS = {
  1000: "Press Reconnect to open the console again.",
  1001: "Press Reconnect to try again.",
  1006: "Check the network, then press Reconnect.",
  4429: "Close one that you do not need, then press Reconnect.",
};

function ended(end) {
  const code = end?.code ?? 1006;
  const title = end?.reason || (code === 1006 ? "The connection was lost" : "The console was closed");
  const unreachable = code === 1006 || code === 1001;
  rfb = null;
  if (Object.hasOwn(TRANSIENT, code) && !(unreachable && retries >= UNREACHABLE_RETRIES)) {
    retry(title, TRANSIENT[code]);
    return;
  }
  const known = Object.hasOwn(HINTS, code);
  const hint = known ? HINTS[code] : code >= 4500 ? "Wait a moment, then press Reconnect." : OPEN_AGAIN;
  show("closed", "Closed", title, hint, known || code >= 4500 || code < 4000);
}

function retry(title, hint) {
  show("waiting", "Waiting", title ?? "The console is not available", hint ?? "Reconnecting.", true);
  const delay = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** retries);
  retries += 1;
  clearTimeout(retryTimer);
  // jitter: the consoles of a lost proxy do not all reconnect at once
  retryTimer = setTimeout(open, delay * (0.75 + Math.random() / 2));
}

function again() {
  retries = 0;
  clearTimeout(retryTimer);
  const old = rfb;
  rfb = null;
  old?.disconnect();
  open();
}

element("again").addEventListener("click", again);
element("notice-again").addEventListener("click", again);
element("keys").addEventListener("click", () => {
  rfb?.sendCtrlAltDel();
  rfb?.focus();
});
element("full").addEventListener("click", async () => {
  if (document.fullscreenElement) {
    await document.exitFullscreen();
    return;
  }
  await document.documentElement.requestFullscreen();
  // Where the browser supports it, Escape and Alt-Tab go to the guest; holding Escape leaves full screen.
  await navigator.keyboard?.lock?.().catch(() => {});
  rfb?.focus();
});

if (!token) {
  try {
    session = JSON.parse(sessionStorage.getItem(STORAGE_KEY));
  } catch {
    session = null;
  }
}
open();
