// SPDX-License-Identifier: Apache-2.0
// The console's page. First of all it takes the token out of the address bar, then it spends it by a POST to its
// own origin, and what shows the screen from there on is stock noVNC.

const KEPT = "console";
const QUICK_RETRIES = 5;

// where this module is, whatever path the console is advertised under
const base = new URL(".", import.meta.url).pathname;
const address = new URLSearchParams(location.search);
const token = address.get("token");
history.replaceState(null, "", `${base}console`);

const element = (id) => document.getElementById(id);
let session = null;
let rfb = null;
let retries = 0;

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
    // With the daemon away or the machine stopped nothing was spent: the same link may be tried again.
    const unspent = [409, 503].includes(answer.status);
    show("closed", "Refused", said.title ?? "The console was refused", said.hint ?? "", unspent);
    return false;
  }
  session = { id: said.session, name: said.name };
  sessionStorage.setItem(KEPT, JSON.stringify(session));
  return true;
}

async function open() {
  if (token && !session) {
    show("opening", "Opening", "Opening the console", "One moment, please.");
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
  show("connecting", "Connecting", `Connecting to ${session.name}`, "Reaching the virtual machine's screen.");
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

function ended(end) {
  const code = end?.code ?? 1006;
  rfb = null;
  if ((code === 1006 || code === 1001) && retries < QUICK_RETRIES) {
    retries += 1;
    show("connecting", "Connection lost", "The connection was lost",
         `Trying again, ${retries} of ${QUICK_RETRIES}.`, true);
    const waiting = session;
    setTimeout(() => {
      if (rfb === null && session === waiting && document.body.dataset.state === "connecting") connect();
    }, 500 * 2 ** retries);
    return;
  }
  const known = Object.hasOwn(HINTS, code);
  const hint = known ? HINTS[code] : code >= 4500 ? "Wait a moment, then press Reconnect." : OPEN_AGAIN;
  const title = end?.reason || "The console was closed";
  show("closed", "Closed", title, hint, known || code >= 4500 || code < 4000);
}

const OPEN_AGAIN = "Open the console again from the cloud's page.";
const HINTS = {
  1000: "Press Reconnect to open it again.",
  1006: "Check the network, then press Reconnect.",
  4409: "Start it on the cloud's page, then press Reconnect.",
  4410: "It may have stopped or restarted. Wait a moment, then press Reconnect.",
  4429: "Close one of them, then press Reconnect.",
};

function again() {
  retries = 0;
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
