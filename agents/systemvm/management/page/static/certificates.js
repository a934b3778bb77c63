// SPDX-License-Identifier: Apache-2.0
// What administrators do with the names of consoles and images, and with the certificates that prove them.

import { call, job } from "./api.js";
import { nameCard } from "./certificate_views.js";
import { askFields } from "./field_dialog.js";
import { addSection } from "./sections.js";
import { $, afterClose, ask, draw, form, show, titled } from "./ui.js";
import { act, actions, busy, onBusy } from "./work.js";

const TABLES = ["public_certificates", "configurations", "zones", "async_jobs", "events"];

let names = [];

const nameOf = (id) => names.find((name) => name.id === id);

async function refreshCertificates() {
  ({ publicname: names = [] } = await call("listPublicNames"));
  drawCards();
}

function drawCards() {
  draw($("#certificates"), names, nameCard, "A proxy in front has every certificate.", busy);
}

// Sets a setting of a zone, or resets one that is emptied.
// `field` is the one of the dialog in which an error is shown.
async function set(name, value, zoneid, field = "") {
  if (value) {
    await call("updateConfiguration", { name, value, zoneid }).catch((error) => {
      throw Object.assign(error, { parameter: field });
    });
    return;
  }
  const { configuration } = await call("resetConfiguration", { name, zoneid });
  if (configuration?.value) {
    throw new Error(`${name} has a value for all zones, which stays: reset it by "systemvm setting reset ${name}"`);
  }
}

// The domain of a name or of `*.DOMAIN`.
const domainOf = (name) => (name ?? "").split("*.").at(-1);

Object.assign(actions, {
  "certificate-upload"(id) {
    const name = nameOf(id);
    const { elements } = $("#certificate-upload form");
    $("#certificate-upload form").reset(); // the event of its last close waits for a frame
    elements.domainsuffix.value = domainOf(name?.configured);
    show($("#certificate-upload"));
  },
  "certificate-settings"(id) {
    const name = nameOf(id);
    askFields({
      title: titled`Name and ACME server of ${name.service === "console" ? "consoles" : "images"} in ${name.zonename}`, verb: "Save",
      text: "The name is used once a certificate is valid for it. With an ACME server one is ordered and renewed; by setting it you agree to its terms.",
      fields: [
        { name: "configured", label: "Name for browsers", maxLength: 255, value: name.configured,
          placeholder: "as in the zone's file; *.NAME: each system VM by its address" },
        { name: "acmedirectory", label: "Directory of an ACME server", type: "url", maxLength: 1024, value: name.acmedirectory,
          placeholder: "none: certificates are not ordered" }],
      async submit({ configured = "", acmedirectory = "" }) {
        // the name first: an order begins as soon as both are there
        if (configured !== (name.configured ?? "")) await set(name.setting, configured, name.zoneid, "configured");
        if (acmedirectory !== (name.acmedirectory ?? "")) await set(name.acmesetting, acmedirectory, name.zoneid, "acmedirectory");
      },
    });
  },
  "certificate-renew": (id) => act(id, "Renewing…", () => job("renewPublicCertificate", { id })),
  async "certificate-own"(id) {
    const name = nameOf(id);
    const text = `Its uploaded and ordered certificates are deleted with their keys, and no ACME server is asked any more. The CA of this
      installation signs where it can; else ${name.service === "console" ? "consoles" : "images"} are reached by the address of the zone's file.`;
    if (!(await ask(titled`Go back to the own CA for ${name.configured ?? name.name}?`, text, "Go back"))) return;
    await act(id, "Going back…", async () => {
      await set(name.acmesetting, "", name.zoneid);
      const { customcertificate = [] } = await call("listCustomCertificates");
      const hosts = new Set([domainOf(name.wantedname || name.name), domainOf(name.configured)]);
      const own = customcertificate.filter((one) => hosts.has(one.domainsuffix)).map((one) => one.domainsuffix);
      for (const domainsuffix of new Set(own)) await call("deleteCustomCertificate", { domainsuffix });
    });
  },
});

// Text of a chosen file goes into the field beside it, where it can be read before it is sent.
function fillFromFiles(dialog) {
  for (const input of dialog.querySelectorAll("input[type=file]")) {
    input.addEventListener("change", async () => {
      const [file] = input.files;
      const text = await file?.text();
      if (text !== undefined && dialog.open) dialog.querySelector(`textarea[name=${input.dataset.fills}]`).value = text;
      input.value = "";
    });
  }
}

export function wireCertificates() {
  addSection({ id: "certificates", title: "Certificates", command: "listPublicNames", tables: TABLES, refresh: refreshCertificates });
  onBusy(() => { if (names.length) drawCards(); }); // an empty list is shown as one after it was loaded
  fillFromFiles($("#certificate-upload"));
  // a key does not stay in the page
  afterClose($("#certificate-upload"), () => $("#certificate-upload form").reset());
  $("#open-certificate").addEventListener("click", () => actions["certificate-upload"](null));
  form($("#certificate-upload"), async (data) => {
    const { certificate, privatekey, domainsuffix } = Object.fromEntries(data);
    await job("uploadCustomCertificate", { certificate, privatekey, domainsuffix });
  });
}
