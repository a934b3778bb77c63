// SPDX-License-Identifier: Apache-2.0
// A resumable upload by tus 1.0 to one URL. It sends nothing itself: `send` does, so that it runs without a network.

const VERSION = "1.0.0";
// How long to wait before each attempt that follows one without progress.
const DELAYS_MS = [1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000];

// The server will not take the file, however often it is sent.
export class RefusedError extends Error {}

// It can go on, but not now.
export class InterruptedError extends Error {}

class TransientError extends Error {
  constructor(text, afterMs = 0) {
    super(text);
    this.afterMs = afterMs;
  }
}

// Send `file` to `target` = {url, headers}; continue at what the server has. Resolves when it has all.
//
// send({method, url, headers, body, sent, signal}) resolves with {status, header(name), text}, rejects without an
// answer, and calls sent(bytes) while it sends. sleep(ms, signal) waits. report(bytes) gets how much is sent.
// Throws RefusedError, InterruptedError, or what `send` throws once `signal` is aborted.
export async function upload({ target, file, send, sleep, report, signal }) {
  let failures = 0;
  let reached = -1;
  for (;;) {
    try {
      let offset = await begin({ target, file, send, signal });
      report(offset);
      while (offset < file.size) {
        if (offset > reached) [reached, failures] = [offset, 0];
        offset = await patch({ target, file, send, signal, report, offset });
        report(offset);
      }
      return;
    } catch (error) {
      if (signal.aborted || error instanceof RefusedError) throw error;
      if (failures >= DELAYS_MS.length) throw new InterruptedError(error.message);
      await sleep(Math.max(DELAYS_MS[failures], error.afterMs ?? 0), signal);
      failures += 1;
    }
  }
}

// The offset of an upload that the server has, or that of a new one.
async function begin({ target, file, send, signal }) {
  const headers = { ...target.headers, "Tus-Resumable": VERSION };
  const head = await send({ method: "HEAD", url: target.url, headers, signal });
  const length = succeeded(head) ? head.header("Upload-Length") : null;
  if (length !== null) {
    if (Number(length) !== file.size) {
      throw new RefusedError(`file has another size: ${file.size} bytes, the upload began with ${length}`);
    }
    return offsetOf(head, file);
  }
  // nobody has told the length yet; or the reason is in the answer to POST, because HEAD's has no text
  if (!succeeded(head) && ![400, 404].includes(head.status)) throw problem(head);
  const created = await send({ method: "POST", url: target.url, headers: { ...headers, "Upload-Length": String(file.size) }, signal });
  if (!succeeded(created)) throw problem(created);
  return created.header("Upload-Offset") === null ? 0 : offsetOf(created, file);
}

async function patch({ target, file, send, signal, report, offset }) {
  const answer = await send({
    method: "PATCH",
    url: target.url,
    headers: {
      ...target.headers, "Tus-Resumable": VERSION, "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream",
    },
    body: file.slice(offset),
    sent: (count) => report(Math.min(file.size, offset + count)),
    signal,
  });
  if (!succeeded(answer)) throw problem(answer);
  const next = offsetOf(answer, file);
  if (next <= offset) throw new TransientError("the server took nothing");
  return next;
}

function offsetOf(answer, file) {
  const offset = Number(answer.header("Upload-Offset"));
  if (!Number.isSafeInteger(offset) || offset < 0 || offset > file.size) {
    throw new RefusedError(`server has an impossible offset: ${answer.header("Upload-Offset")}`);
  }
  return offset;
}

const succeeded = ({ status }) => status >= 200 && status < 300;

// 409: another offset; 423: an earlier request still holds the upload. Both pass.
function problem({ status, header, text }) {
  const why = text?.trim() || (status === 410 ? "the upload has ended; its template shows why" : `the server answers ${status}`);
  if (status >= 500 || [408, 409, 423, 425, 429].includes(status)) {
    return new TransientError(why, 1000 * (Number(header("Retry-After")) || 0));
  }
  return new RefusedError(why);
}
