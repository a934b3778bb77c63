// SPDX-License-Identifier: Apache-2.0
// Requests whose progress can be followed while their body is sent, which fetch cannot do.

// Send a request; see tus.js for its form. Rejects with an AbortError when `signal` is aborted.
export function send({ method, url, headers, body = null, sent = () => {}, signal }) {
  return new Promise((done, fail) => {
    signal.throwIfAborted();
    const request = new XMLHttpRequest();
    request.open(method, url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => sent(event.loaded);
    const abort = () => request.abort();
    signal.addEventListener("abort", abort, { once: true });
    request.onloadend = () => {
      signal.removeEventListener("abort", abort);
      if (signal.aborted) fail(signal.reason);
      else if (request.status === 0) fail(new Error("the connection to the secondary storage VM is lost"));
      else done({ status: request.status, header: (name) => request.getResponseHeader(name), text: request.responseText });
    };
    request.send(body);
  });
}

export function sleep(ms, signal) {
  return new Promise((done, fail) => {
    signal.throwIfAborted();
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end, { once: true });
    function end() {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      if (signal.aborted) fail(signal.reason);
      else done();
    }
  });
}
