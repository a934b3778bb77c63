// SPDX-License-Identifier: Apache-2.0
// The row of an upload: how far it is, or what keeps it from going on and what to do about that.

import { action, badge, bytes, element, progress } from "./elements.js";
import { duration, TransferRate } from "./transfer_rate.js";
import { untrusted } from "./trust_views.js";

export const State = Object.freeze({
  STARTING: "starting",
  RUNNING: "uploading",
  PAUSED: "paused",
  NEEDS_FILE: "needs its file",
  UNTRUSTED: "not connected",
  NEEDS_RELOAD: "needs a reload",
  INTERRUPTED: "interrupted",
  FAILED: "failed",
});

const rates = new TransferRate();
const WARNED = new Set([State.PAUSED, State.NEEDS_FILE, State.UNTRUSTED, State.NEEDS_RELOAD, State.INTERRUPTED]);

export function uploadRow(upload) {
  const { state, file, name } = upload;
  const kind = state === State.FAILED ? "Error" : state;
  return element("article", { className: "row upload", data: { state } },
    element("div", {},
      element("div", { className: "top" }, element("strong", {}, name), badge(kind, WARNED.has(state) ? state : undefined)),
      element("small", {}, `${file.name} · ${bytes(file.size)}`)),
    element("div", {}, progress(0, `Upload of ${name}`), element("small", { className: "sent" }), ...explanation(upload)),
    element("div", { className: "actions" }, ...buttons(upload),
      action("upload-cancel", "Cancel", upload, { className: "danger" })));
}

function buttons(upload) {
  switch (upload.state) {
    case State.STARTING:
    case State.RUNNING: return [action("upload-pause", "Pause", upload)];
    case State.PAUSED:
    case State.INTERRUPTED: return [action("upload-continue", "Continue", upload, { className: "primary" })];
    case State.UNTRUSTED: return [action("upload-continue", "Check again", upload, { className: "primary" })];
    case State.NEEDS_FILE:
    case State.FAILED: return [action("upload-choose", "Choose file…", upload, { className: "primary" })];
    case State.NEEDS_RELOAD: return [action("upload-reload", "Reload page", upload, { className: "primary" })];
    default: return [];
  }
}

function explanation({ state, file, why, origin }) {
  const hint = (...parts) => element("p", { className: "hint" }, ...parts);
  switch (state) {
    case State.NEEDS_FILE:
      return [hint(`The page was loaded again: choose ${file.name} again, and the upload continues where it stopped.`)];
    case State.UNTRUSTED:
      return untrusted(origin);
    case State.NEEDS_RELOAD:
      return [hint("The secondary storage VM is newer than this page. Reload the page, then choose the file again.")];
    case State.INTERRUPTED:
      return [hint(`${why}. What was sent is kept.`)];
    case State.FAILED:
      return [element("p", { className: "hint bad" }, why)];
    default:
      return [];
  }
}

// Change the numbers only, so that no button is replaced while it is clicked.
export function showProgress(container, upload) {
  const row = container.querySelector(`[data-id="${CSS.escape(upload.id)}"]`);
  if (!row) return;
  const percent = upload.file.size ? (100 * upload.sent) / upload.file.size : 0;
  const bar = row.querySelector(".bar");
  bar.firstChild.style.width = `${percent}%`;
  bar.ariaValueNow = String(Math.floor(percent));
  const running = upload.state === State.RUNNING;
  const rate = running ? rates.note(upload.id, upload.sent, performance.now()) : null;
  if (!running) rates.forget(upload.id);
  const left = rate && upload.sent < upload.file.size ? duration((upload.file.size - upload.sent) / rate) : null;
  row.querySelector(".sent").textContent = [
    upload.sent || running ? `${bytes(upload.sent) || "0 B"} of ${bytes(upload.file.size)}` : null,
    rate ? `${bytes(rate)}/s` : null,
    left ? `${left} left` : null,
    running && left === null && upload.sent === upload.file.size ? "the secondary storage VM checks and publishes it" : null,
    running ? `to ${new URL(upload.origin).host}` : null,
  ].filter(Boolean).join(" · ");
}
