// SPDX-License-Identifier: Apache-2.0
// The card of a name that browsers use, with its certificate.

import { commands } from "./api.js";
import { element, offer, problem } from "./elements.js";

const SERVICES = { console: "consoles", secondarystorage: "images", page: "this page" };
const SOURCES = { own: "the CA of this installation", file: "files of the operator", upload: "uploaded", acme: "ordered from an ACME server" };
const STATES = { valid: ["valid", "good"], expiring: ["expires soon", "warn"], expired: ["expired", "bad"], none: ["no certificate", ""] };
const ORDERS = { waiting: "waits for its turn", ordering: "is being ordered", issued: "ordered and renewed by itself", failed: "failed",
  unnamed: "waits for a name", overridden: "not used: an uploaded one comes first" };

const GIVING_UP = ["resetConfiguration", "listCustomCertificates"];

const when = (text) => (text ? new Date(text).toLocaleString() : null);

// `name` is listPublicNames'.
export function nameCard(name, busy) {
  const [state, kind] = STATES[name.state] ?? [name.state, ""];
  const title = `${name.name}${name.zonename ? `, ${name.zonename}` : ""}`;
  const own = { id: name.id, name: name.name };
  const off = { disabled: Boolean(busy) };
  const facts = [
    ["shows", SERVICES[name.service] ?? name.service],
    ["wanted", name.configured && name.wantedname !== name.name ? name.wantedname : null],
    ["issued by", name.issuer], ["comes from", SOURCES[name.source] ?? name.source], ["for", name.names.join(" ")],
    ["valid until", when(name.expires)], ["used by", name.systemvms.join(" ")],
    ["ACME server", name.acmedirectory], ["ACME", ORDERS[name.acmestate]], ["tried again", when(name.acmenext)],
  ].filter(([, value]) => value);
  const changeable = Boolean(name.setting);
  return element("article", { className: "card" },
    element("div", { className: "top" }, element("strong", {}, title), element("span", { className: "grow" }),
      element("span", { className: `state ${busy ? "warn" : kind}` }, busy ?? state)),
    element("dl", {}, ...facts.flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, value)])),
    problem(name, name.state === "expired"),
    problem({ reason: name.acmereason, hint: name.acmehint }, true),
    element("div", { className: "actions" },
      changeable ? offer("uploadCustomCertificate", "certificate-upload", "Upload…", own, { ...off, ariaLabel: `Upload a certificate for ${title}` }) : null,
      changeable ? offer("updateConfiguration", "certificate-settings", "Name and ACME…", own, { ...off, ariaLabel: `Name and ACME server of ${title}` }) : null,
      name.source !== "upload" ? offer("renewPublicCertificate", "certificate-renew", "Renew now", own, { ...off, ariaLabel: `Renew the certificate of ${title} now` }) : null,
      changeable && (name.acmedirectory || name.source === "upload" || name.source === "acme") && GIVING_UP.every((command) => commands().has(command))
        ? offer("deleteCustomCertificate", "certificate-own", "Use own CA…", own, { ...off, ariaLabel: `Use the own CA for ${title}` }) : null));
}
