// SPDX-License-Identifier: Apache-2.0
// A temporary link to an image: what it is, until when it works, and whether this browser can open it.

import { job } from "./api.js";
import { Access, accessTo } from "./trust.js";
import { untrusted } from "./trust_views.js";
import { $, presence, showInTurn, titled } from "./ui.js";

// `command` makes the link of a template, ISO, volume or snapshot; its answer is in `key`.
export async function showLink(image, command, key) {
  const present = presence();
  const mode = command === "extractSnapshot" ? {} : { mode: "HTTP_DOWNLOAD" };
  const result = await job(command, { id: image.id, ...mode, zoneid: image.zoneid });
  const { url: encoded, expires } = result[key];
  const url = decodeURIComponent(encoded); // CloudStack's clients expect it encoded
  const dialog = $("#link");
  showInTurn(dialog, () => {
    dialog.querySelector("h2").replaceChildren(...titled`Download ${image.name}`);
    dialog.querySelector("[name=url]").value = url;
    dialog.querySelector("[name=curl]").value = `curl -C - -O --cacert systemvm-root.crt '${url}'`;
    dialog.querySelector("time").dateTime = expires;
    dialog.querySelector("time").textContent = new Date(expires).toLocaleString();
    dialog.querySelector("a.primary").href = url;
    dialog.querySelector(".trust").replaceChildren();
    explainAccess(new URL(url).origin, dialog.querySelector(".trust"));
  }, present);
}

// The dialog does not wait for this: an address that does not answer takes long.
async function explainAccess(origin, place) {
  if (await accessTo(origin) === Access.CLOSED) place.replaceChildren(...untrusted(origin));
}
