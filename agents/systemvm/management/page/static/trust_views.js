// SPDX-License-Identifier: Apache-2.0
// What to do when this browser cannot connect to a secondary storage VM.

import { element } from "./elements.js";

// A page cannot see which of the two it is: the browser shows it when the address is opened.
export function untrusted(origin) {
  const outside = { target: "_blank", rel: "noopener noreferrer" };
  return [
    element("p", { className: "hint" }, `This browser cannot connect to ${origin}. Most often it does not trust the certificate there.`),
    element("ul", { className: "help" },
      element("li", {}, "For good: import ", element("a", { href: "public-ca.crt", download: "systemvm-root.crt" }, "this cloud's CA certificate"),
        " as an authority for websites in the browser's settings."),
      element("li", {}, "For now: ", element("a", { href: `${origin}/`, ...outside }, `open ${origin}`),
        " and accept the certificate. Any text without a warning is a success."),
      element("li", {}, "When it does not open at all, the address cannot be reached from here: ask the cloud's administrator.")),
  ];
}
