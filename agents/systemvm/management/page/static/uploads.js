// SPDX-License-Identifier: Apache-2.0
// Uploads from this browser: each begins when the browser trusts the SSVM, and continues after a pause or a reload.

import { call, job, user } from "./api.js";
import { Access, accessTo } from "./trust.js";
import { InterruptedError, RefusedError, upload as sendByTus } from "./tus.js";
import { $, ask, draw, form, onClick, show, titled, toast } from "./ui.js";
import { compare, fingerprint, forgetUpload, openMemory, remember, remembered } from "./upload_memory.js";
import { State, showProgress, uploadRow } from "./upload_views.js";
import { actions } from "./work.js";
import { send, sleep } from "./xhr.js";
import { chosenZone } from "./zone_choice.js";

const uploads = new Map(); // by the template's id
let afterChoice = null; // what the next chosen file is for
let refreshPage = () => {};
let owner = null;

// Show the uploads that this user has begun in an earlier visit to the page. Those that run go on when a login
// has expired.
export function restoreUploads() {
  if (owner !== user().id) endUploads();
  owner = user().id;
  openMemory(owner);
  for (const each of remembered()) {
    if (!uploads.has(each.id)) uploads.set(each.id, { ...each, state: State.NEEDS_FILE, sent: 0 });
  }
  redraw();
}

export function endUploads() {
  for (const each of uploads.values()) each.pause?.abort();
  uploads.clear();
  redraw();
}

export const isUploading = (id) => uploads.has(id);

// Compare with what the daemon knows: an upload can have ended without this browser, or been deleted.
export async function reconcileUploads() {
  if (!uploads.size) return;
  const ids = [...uploads.keys()].join(",");
  const [{ template = [] }, { iso = [] }] = await Promise.all([
    call("listTemplates", { templatefilter: "self", ids }), call("listIsos", { isofilter: "self", ids })]);
  const known = new Map([...template, ...iso].map((each) => [each.id, each]));
  for (const [id, upload] of [...uploads]) {
    const template = known.get(id);
    const copies = template?.downloaddetails ?? [];
    const failed = copies.some((copy) => copy.downloadState === "UPLOAD_ERROR");
    const began = upload.state === State.STARTING;
    if (upload.isListed && !template) drop(upload);
    else if (template?.isready) complete(upload);
    else if ( failed && !began && upload.state !== State.RUNNING) drop(upload);
    if (template) upload.isListed = true;
  }
}

const others = {
  "upload-pause": (upload) => upload.pause?.abort(),
  "upload-continue": (upload) => run(upload),
  "upload-choose": (upload) => choose((file) => resume(upload, file)),
  "upload-reload": () => location.reload(),
  async "upload-cancel"(upload) {
    if (!(await ask(titled`Cancel the upload of ${upload.name}?`, "What was sent is deleted.", "Cancel upload"))) return;
    upload.pause?.abort();
    try {
      await job(upload.iso ? "deleteIso" : "deleteTemplate", { id: upload.id });
      drop(upload);
    } catch (error) {
      toast(error.message, true);
    }
    refreshPage();
  },
};

for (const [name, work] of Object.entries(others)) actions[name] = (id) => uploads.has(id) && work(uploads.get(id));

// Send a file for a template that waits for one: begun in another browser, or failed.
export function uploadAgain(template, iso) {
  choose((file) => start({ id: template.id, name: template.name, iso }, file));
}

function choose(use) {
  afterChoice = use;
  $("#upload-file").value = "";
  $("#upload-file").click();
}

async function resume(upload, file) {
  const how = compare(file, upload.file);
  if (how === "other") {
    toast(`This is another file: choose ${upload.file.name} of ${upload.file.size} bytes, this one has ${file.size}`, true);
    return;
  }
  if (how === "doubtful") {
    const text = `The upload began with ${upload.file.name}. ${file.name} is as large, but was changed at another time.`;
    if (!(await ask("Is it the same file?", text, "Continue with it"))) return;
  }
  upload.source = file;
  run(upload);
}

function start(about, file, parameters) {
  const upload = { ...about, file: fingerprint(file), source: file, state: State.STARTING, sent: 0 };
  uploads.set(upload.id, upload);
  remember(upload);
  return run(upload, parameters);
}

// Send the rest of an upload until it is complete, paused, or cannot go on.
async function run(upload, parameters) {
  if (upload.pause) return;
  const pause = new AbortController();
  upload.pause = pause;
  try {
    change(upload, State.STARTING);
    const renew = upload.iso ? "renewUploadParamsForIso" : "renewUploadParamsForTemplate";
    const { postURL, metadata, expires, signature } =
      parameters ?? (await call(renew, { id: upload.id })).getuploadparams;
    upload.origin = new URL(postURL).origin;
    const access = await accessTo(upload.origin);
    pause.signal.throwIfAborted();
    if (access !== Access.OPEN) {
      change(upload, access === Access.CLOSED ? State.UNTRUSTED : State.NEEDS_RELOAD);
      return;
    }
    change(upload, State.RUNNING);
    await sendByTus({
      target: { url: postURL, headers: { "X-signature": signature, "X-metadata": metadata, "X-expires": expires } },
      file: upload.source, send, sleep, signal: pause.signal,
      report: (bytes) => {
        upload.sent = bytes;
        showProgress($("#uploads"), upload);
      },
    });
    complete(upload);
  } catch (error) {
    if (pause.signal.aborted) change(upload, State.PAUSED);
    else if (error instanceof InterruptedError) change(upload, State.INTERRUPTED, error.message);
    else if (error instanceof RefusedError) change(upload, State.FAILED, error.message);
    else change(upload, State.INTERRUPTED, error.message); // the daemon refused new parameters
  } finally {
    upload.pause = null;
    refreshPage();
  }
}

function change(upload, state, why = "") {
  Object.assign(upload, { state, why });
  redraw();
}

function complete(upload) {
  if (!uploads.has(upload.id)) return;
  toast(`${upload.name} is uploaded.`);
  drop(upload);
}

function drop(upload) {
  upload.pause?.abort();
  uploads.delete(upload.id);
  forgetUpload(upload.id);
  redraw();
}

function redraw() {
  const rows = [...uploads.values()].map(({ id, name, file, state, why, origin }) => ({ id, name, file, state, why, origin }));
  draw($("#uploads"), rows, uploadRow, "");
  for (const upload of uploads.values()) showProgress($("#uploads"), upload);
}

// `refresh` redraws the page.
export function wireUploads(refresh) {
  refreshPage = refresh;
  $("#upload-file").addEventListener("change", ({ target }) => {
    const use = afterChoice;
    afterChoice = null;
    if (use && target.files.length) use(target.files[0]);
  });
  form($("#upload"), async (data) => {
    const { name, format, checksum, zoneid } = Object.fromEntries(data);
    const file = data.get("file");
    if (!file.size) throw new Error(`file is empty: ${file.name}`);
    const iso = format === "ISO";
    const common = { name, displaytext: name, format, zoneid, ...(checksum ? { checksum } : {}) };
    const answer = iso
      ? await call("getUploadParamsForIso", { ...common, bootable: "true" })
      : await call("getUploadParamsForTemplate", { ...common, hypervisor: "KVM" });
    start({ id: answer.getuploadparams.id, name, iso }, file, answer.getuploadparams);
  });
  $("#upload [name=file]").addEventListener("change", ({ target }) => suggest(target.files[0]?.name ?? ""));
  onClick("#open-upload", () => {
    chosenZone($("#upload [name=zoneid]"));
    show($("#upload"));
  });
  window.addEventListener("beforeunload", (event) => {
    if ([...uploads.values()].some((upload) => upload.state === State.RUNNING)) event.preventDefault();
  });
  // whoever comes back from the page of the certificate need not click again
  window.addEventListener("focus", () => {
    for (const upload of uploads.values()) if (upload.state === State.UNTRUSTED) run(upload);
  });
}

const FORMATS = { qcow2: "QCOW2", raw: "RAW", img: "RAW", vhd: "VHD", vhdx: "VHDX", vmdk: "VMDK", ova: "OVA", tar: "TAR", iso: "ISO" };

const COMPRESSIONS = new Set(["gz", "bz2", "xz", "zst"]);

// Fill in what the file's name tells: "debian-13.qcow2.gz" is QCOW2.
function suggest(fileName) {
  const form = $("#upload form");
  const parts = fileName.split(".");
  if (COMPRESSIONS.has(parts.at(-1).toLowerCase())) parts.pop();
  const format = parts.length > 1 ? FORMATS[parts.pop().toLowerCase()] : undefined;
  if (format) form.elements.format.value = format;
  if (!form.elements.name.value) form.elements.name.value = parts.join(".");
}
