// SPDX-License-Identifier: Apache-2.0
// The console's page. First of all it takes the token out of the address bar, then it spends it by a POST to its
// own origin, and what shows the screen from there on is stock noVNC.

const KEPT = "console";
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 10_000;
// How often a console proxy that cannot be reached is tried: some ten minutes.
const UNREACHABLE_RETRIES = 60;

// where this module is, whatever path the console is advertised under
const base = new URL(".", import.meta.url).pathname;
const address = new URLSearchParams(location.search);
const token = address.get("token");
history.replaceState(null, "", `${base}console`);

const element = (id) => document.getElementById(id);
let session = null;
let rfb = null;
let retries = 0;
let retryTimer = 0;

function show(state, label, title = "", hint = "", mayRetry = false) {
  document.body.dataset.state = state;
  element("state-text").textContent = label;
  element("notice-title").textContent = title;
  element("notice-hint").textContent = hint;
  element("notice-again").hidden = !mayRetry;
  element("again").disabled = !(mayRetry || state === "connected");
  element("keys").disabled = state !== "connected";
}

function nameIt(name) {
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
    show("closed", "Closed", "The console cannot be reached", "Check the network, then press Reconnect.", true);
    return false;
  }
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    // With the daemon away or the machine stopped nothing was spent: the same link holds until it expires.
    if ([409, 503].includes(answer.status)) retry(said.title, said.hint);
    else show("closed", "Refused", said.title ?? "The console was refused", said.hint ?? "");
    return false;
  }
  session = { id: said.session, name: said.name };
  sessionStorage.setItem(KEPT, JSON.stringify(session));
  return true;
}

async function open() {
  if (token && !session) {
    if (document.body.dataset.state !== "waiting") {
      show("opening", "Opening", "Opening the console", "One moment, please.");
    }
    if (!(await spend())) return;
  }
  if (!session) {
    show("closed", "No console", "This address holds no console link",
         "Open the console from the cloud's page: a link works once, and only for a short time.");
    return;
  }
  nameIt(session.name);
  await connect();
}

async function connect() {
  // while it waits the notice says what for, and does not flicker with every try
  if (document.body.dataset.state !== "waiting") {
    show("connecting", "Connecting", `Connecting to ${session.name}`, "Reaching the virtual machine's screen.");
  }
  let RFB;
  try {
    ({ default: RFB } = await import("./novnc/core/rfb.js"));
  } catch {
    show("closed", "Closed", "The console cannot be loaded", "Reload this page.", true);
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
  rfb.addEventListener("desktopname", (event) => nameIt(event.detail.name));
  const mine = rfb;
  rfb.addEventListener("disconnect", () => {
    if (mine === rfb) ended(end);
  });
}

// What passes by itself: tried again, later each time. The session's end, of which the proxy tells, ends it too.
const COMES_BACK = "The console comes back by itself when it runs.";
const WAITS = {
  1001: "The console proxy restarts. Trying again.",
  1006: "The console proxy cannot be reached. Trying again.",
  4409: `Start it on the cloud's page. ${COMES_BACK}`,
  4410: `It may have stopped or restarted. ${COMES_BACK}`,
  4411: COMES_BACK,
  4412: COMES_BACK,
  4502: "Trying again.",
  4503: "Trying again.",
  4504: "Trying again.",
};
const OPEN_AGAIN = "Open the console again from the cloud's page.";
const HINTS = {
  1000: "Press Reconnect to open it again.",
  1001: "Press Reconnect to try again.",
  1006: "Check the network, then press Reconnect.",
  4429: "Close one of them, then press Reconnect.",
};

function ended(end) {
  const code = end?.code ?? 1006;
  const title = end?.reason || (code === 1006 ? "The connection was lost" : "The console was closed");
  const unreachable = code === 1006 || code === 1001;
  rfb = null;
  if (Object.hasOwn(WAITS, code) && !(unreachable && retries >= UNREACHABLE_RETRIES)) {
    retry(title, WAITS[code]);
    return;
  }
  const known = Object.hasOwn(HINTS, code);
  const hint = known ? HINTS[code] : code >= 4500 ? "Wait a moment, then press Reconnect." : OPEN_AGAIN;
  show("closed", "Closed", title, hint, known || code >= 4500 || code < 4000);
}

function retry(title, hint) {
  show("waiting", "Waiting", title ?? "The console is not available", hint ?? "Trying again.", true);
  const delay = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** retries);
  retries += 1;
  clearTimeout(retryTimer);
  // jitter: the consoles of a proxy that was lost do not all come back at once
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
  // Where a browser can, Escape and Alt-Tab go to the guest too; holding Escape leaves.
  await navigator.keyboard?.lock?.().catch(() => {});
  rfb?.focus();
});

if (!token) {
  try {
    session = JSON.parse(sessionStorage.getItem(KEPT));
  } catch {
    session = null;
  }
}
open();
