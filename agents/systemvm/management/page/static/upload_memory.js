// SPDX-License-Identifier: Apache-2.0
// The uploads that this browser has begun and not ended, so that they continue after a reload. The parameters of an
// upload are secrets and are not kept: the daemon gives new ones.

let key = "";

// Uploads belong to the user of this id, also while nobody is logged in.
export function openMemory(userId) {
  key = `systemvm.uploads.${userId}`;
}

// Each is {id, name, iso, file: {name, size, modified}}; id is the template's.
export function remembered() {
  try {
    const found = JSON.parse(localStorage.getItem(key) ?? "[]");
    return Array.isArray(found) ? found.filter((each) => each?.id && each.file) : [];
  } catch {
    return [];
  }
}

export function remember(upload) {
  const { id, name, iso, file } = upload;
  write([...remembered().filter((each) => each.id !== id), { id, name, iso, file }]);
}

export function forgetUpload(id) {
  write(remembered().filter((each) => each.id !== id));
}

function write(uploads) {
  try {
    localStorage.setItem(key, JSON.stringify(uploads));
  } catch {
    // private windows can have no storage: then an upload does not survive a reload
  }
}

export const fingerprint = (file) => ({ name: file.name, size: file.size, modified: file.lastModified });

// How a chosen file relates to the one of the upload: "same", "other", or "doubtful" when only its time differs.
export function compare(file, known) {
  if (!known || (file.name === known.name && file.size === known.size && file.lastModified === known.modified)) return "same";
  return file.size === known.size ? "doubtful" : "other";
}
