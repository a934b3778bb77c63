// SPDX-License-Identifier: Apache-2.0
// The page of recordings: a list, and a player that seeks, changes its speed and follows a recording that still runs.

import { ApiError, call, forget, loggedIn, login } from "./api.js";
import { bytes } from "./elements.js";
import { fromHex, Kind, RecordingFile } from "./recording_file.js";
import { RecordingScreen } from "./recording_screen.js";
import { RecordingTerminal } from "./recording_terminal.js";

const REFRESH_MS = 2000;
const element = (id) => document.getElementById(id);
const clock = (ms) => new Date(ms).toISOString().slice(11, 19);

// When the gap before an event began, in ms; null when it is another event.
function gapFrom(content) {
  const { event, from_ms: from } = JSON.parse(new TextDecoder().decode(content));
  return event === "gap" ? Number(from) : null;
}

// What draws a recording: a screen, or the terminal of a serial port.
async function shownBy(about, width, height) {
  const isSerial = about.kind === "serial";
  element("picture").hidden = isSerial;
  element("terminal").hidden = !isSerial;
  if (isSerial) return RecordingTerminal.begin(element("terminal"), about);
  return new RecordingScreen(element("picture"), width, height, fromHex(about.pixel_format));
}

let playing = null; // the player of the recording that is open

class Player {
  constructor(file) {
    this.file = file;
    this.time = 0; // ms of the recording that the screen shows
    this.speed = 1;
    this.paused = false;
    this.run = 0; // a seek ends the run before it
    this.wake = () => {};
  }

  // Show the screen of a time, then go on from there.
  async seek(time) {
    this.run += 1;
    const run = this.run;
    this.wake();
    const { place, skip, width, height } = this.file.start(time);
    const screen = await shownBy(this.file.about, width, height);
    if (run !== this.run) return;
    let [next, skipped] = [place, skip];
    this.time = time;
    element("gap").hidden = true;
    let [from, since] = [time, performance.now()];
    for (;;) {
      const frame = await this.file.frame(next);
      if (run !== this.run) return;
      if (frame && frame.kind !== Kind.END) {
        while (frame.time > this.time) {
          if (this.paused) {
            await this.pause(run);
            [from, since] = [this.time, performance.now()];
          } else {
            this.time = Math.min(frame.time, from + (performance.now() - since) * this.speed);
            this.show();
            if (frame.time > this.time) await this.sleep(Math.min(200, (frame.time - this.time) / this.speed));
          }
          if (run !== this.run) return;
          if (this.changed) [this.changed, from, since] = [false, this.time, performance.now()];
        }
        if (frame.kind === Kind.EVENT && gapFrom(frame.content) !== null) {
          screen.skip();
          element("gap").hidden = false;
          element("gap").textContent = `Nothing was recorded from ${clock(gapFrom(frame.content))} to ${clock(frame.time)}: the console proxy had no room.`;
        } else if (frame.kind === Kind.SERVER) {
          await screen.feed(frame.content.subarray(skipped));
          skipped = 0;
          if (run !== this.run) return;
        }
        next = frame.after;
      } else if (frame || this.file.ended || !this.file.runs) {
        this.time = Math.max(this.time, this.file.duration);
        this.paused = true;
        this.show();
        return;
      } else {
        await this.sleep(REFRESH_MS);
        if (run !== this.run) return;
        await this.file.scan();
        [from, since] = [this.time, performance.now()];
        this.show();
      }
    }
  }

  sleep(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.wake = () => { clearTimeout(timer); resolve(); };
    });
  }

  async pause(run) {
    this.show();
    while (this.paused && run === this.run) await this.sleep(60_000);
  }

  setSpeed(speed) {
    this.speed = speed;
    this.changed = true;
    this.wake();
  }

  toggle() {
    const isAtEnd = this.paused && this.time >= this.file.duration;
    this.paused = !this.paused;
    this.wake();
    this.show();
    if (isAtEnd) this.follow(0);
  }

  follow(time) {
    this.seek(time).catch(report);
  }

  show() {
    if (playing !== this) return;
    const bar = element("position");
    bar.max = Math.max(1, Math.round(this.file.duration));
    bar.value = Math.round(this.time);
    bar.setAttribute("aria-valuetext", clock(this.time));
    element("time").textContent = `${clock(this.time)} / ${clock(this.file.duration)}`;
    element("toggle").textContent = this.paused ? "Play" : "Pause";
    document.body.dataset.player = this.paused ? "paused" : "playing";
  }
}

function report(error) {
  if (error instanceof ApiError && error.code === 401) {
    forget();
    showLogin();
    return;
  }
  element("message").textContent = error.message;
  element("message").hidden = false;
  document.body.dataset.player = "failed";
}

async function open(id) {
  element("message").hidden = true;
  if (playing) playing.run += 1;
  playing = null;
  const { consolerecordingaccess: access } = await call("openConsoleRecording", { id });
  const file = new RecordingFile(async (offset) => {
    const { consolerecordingcontent: content } = await call("readConsoleRecording", { id, offset });
    file.runs = content.state === "Recording";
    return { bytes: Uint8Array.from(atob(content.data), (character) => character.charCodeAt(0)), size: content.size };
  }, access.key);
  await file.open();
  history.replaceState(null, "", `?id=${encodeURIComponent(id)}`);
  element("player").hidden = false;
  element("name").textContent = file.about.title || "Recording";
  element("begun").textContent = new Date(file.about.started_unix_ms).toLocaleString();
  document.title = `${file.about.title} – recording`;
  playing = new Player(file);
  playing.speed = Number(element("speed").value);
  playing.follow(0);
}

function row(recording) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  const about = document.createElement("span");
  button.type = "button";
  button.textContent = `Play ${recording.virtualmachinename}`;
  button.addEventListener("click", () => open(recording.id).catch(report));
  const state = recording.state === "Incomplete" ? `Incomplete (${recording.endcode})` : recording.state;
  const kind = recording.kind === "serial" ? "serial port, " : "";
  about.textContent = `${kind}${recording.user}, ${new Date(recording.created).toLocaleString()}, ${state}, ${bytes(recording.size)}`;
  item.append(button, about);
  return item;
}

async function list() {
  const { consolerecording: found = [] } = await call("listConsoleRecordings", { pagesize: 200, page: 1 });
  element("list").replaceChildren(...found.map(row));
  element("none").hidden = found.length > 0;
}

function showLogin() {
  element("login").hidden = false;
  element("recordings").hidden = true;
}

async function show() {
  element("login").hidden = true;
  element("recordings").hidden = false;
  await list();
  const id = new URLSearchParams(location.search).get("id");
  if (id) await open(id);
}

element("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { username, password } = Object.fromEntries(new FormData(event.target));
  try {
    await login(username, password);
    await show();
  } catch (error) {
    element("login-error").textContent = error.message;
    element("login-error").hidden = false;
  }
});
element("toggle").addEventListener("click", () => playing?.toggle());
element("speed").addEventListener("change", (event) => playing?.setSpeed(Number(event.target.value)));
element("position").addEventListener("input", (event) => playing?.follow(Number(event.target.value)));
element("refresh").addEventListener("click", () => list().catch(report));

if (loggedIn()) show().catch(report);
else showLogin();
