// SPDX-License-Identifier: Apache-2.0
// Whether this browser can send requests to a secondary storage VM. A page cannot see why a connection fails, so an
// untrusted certificate and an address that cannot be reached look the same.

const PATIENCE_MS = 20000;

export const Access = Object.freeze({
  OPEN: "open",
  CLOSED: "closed", // its certificate is not trusted, or it cannot be reached
  FORBIDDEN: "forbidden", // this page was loaded before the address was known, and its policy forbids it
});

export async function accessTo(origin) {
  let forbidden = false;
  const note = (event) => {
    if (event.effectiveDirective === "connect-src" && event.blockedURI.startsWith(origin)) forbidden = true;
  };
  document.addEventListener("securitypolicyviolation", note);
  try {
    // any answer will do: it can only come after the certificate was verified
    await fetch(`${origin}/`, {
      method: "HEAD", mode: "no-cors", credentials: "omit", cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    return Access.OPEN;
  } catch {
    await new Promise((wake) => setTimeout(wake)); // the event comes after the rejection
    return forbidden ? Access.FORBIDDEN : Access.CLOSED;
  } finally {
    document.removeEventListener("securitypolicyviolation", note);
  }
}
