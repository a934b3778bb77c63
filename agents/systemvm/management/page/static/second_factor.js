// SPDX-License-Identifier: Apache-2.0
// The second factor of the user: its setup with an authenticator app, and the code after the password.

import { call, user, verified } from "./api.js";
import { $, afterClose, ask, form, opening, show, toast } from "./ui.js";

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = 4; // of modules, without which scanners do not find the code

// A QR code from its rows, which have 1 for each dark module.
function qrCode(rows) {
  const size = rows.length + 2 * MARGIN;
  const path = rows.flatMap((row, y) => [...row].map((module, x) => (module === "1" ? `M${x + MARGIN} ${y + MARGIN}h1v1h-1z` : ""))).join("");
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", `0 0 ${size} ${size}`);
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", "QR code of the secret");
  for (const [tag, attributes] of [["rect", { width: size, height: size, fill: "#fff" }], ["path", { d: path, fill: "#000" }]]) {
    const shape = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
    picture.append(shape);
  }
  return picture;
}

async function begin(place, fits = () => true) {
  const { setup2fa } = await call("setupUserTwoFactorAuthentication", { provider: "totp" });
  if (!fits()) return false;
  place.querySelector(".qr").replaceChildren(qrCode(setup2fa.qrcode));
  place.querySelector(".secret").textContent = setup2fa.secretcode;
  place.querySelector(".app").href = setup2fa.uri;
  return true;
}

// Nothing of the secret stays in the page once it is used or given up.
export function forgetSecrets() {
  for (const place of [$("#code"), $("#second-factor")]) {
    place.querySelector(".qr").replaceChildren();
    place.querySelector(".secret").textContent = "";
    place.querySelector(".app").removeAttribute("href");
  }
}

const validate = (code) => call("validateUserTwoFactorAuthenticationCode", { codefor2fa: code.replaceAll(" ", "") });

// Show the step between password and page; who must set up a second factor first gets its secret.
export async function askForCode() {
  const { secondFactor } = user();
  const place = $("#code");
  place.querySelector(".setup").hidden = secondFactor !== "missing";
  place.querySelector(".error").hidden = true;
  if (secondFactor === "missing") await begin(place);
  if (place.hidden) forgetSecrets(); // it was cancelled meanwhile
  place.querySelector("[name=code]").focus();
}

async function openSettings() {
  const dialog = $("#second-factor");
  const fits = opening();
  try {
    const { user: [own] } = await call("listUsers", { id: user().id });
    if (!fits()) return;
    if (own.is2faenabled) {
      if (!(await ask("Disable the second factor?", "Your logins will need your password only.", "Disable"))) return;
      await call("setupUserTwoFactorAuthentication", { enable: "false" });
      toast("The second factor is disabled.");
      return;
    }
    if (await begin(dialog, fits)) show(dialog);
  } catch (error) {
    toast(error.message, true);
  }
}

// `enter` shows the page, `leave` goes back to the login.
export function wireSecondFactor(enter, leave) {
  $("#open-second-factor").addEventListener("click", openSettings);
  form($("#second-factor"), async (data) => {
    await validate(data.get("code"));
    toast("The second factor is set up. Your next login asks for a code.");
  });
  afterClose($("#second-factor"), forgetSecrets);
  $("#code-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const errorLine = event.target.querySelector(".error");
    errorLine.hidden = true;
    try {
      await validate(new FormData(event.target).get("code"));
      event.target.reset();
      forgetSecrets();
      verified();
      await enter();
    } catch (error) {
      if (error.code === 401) {
        await leave();
        return;
      }
      errorLine.textContent = error.message;
      errorLine.hidden = false;
    }
  });
  $("#code-cancel").addEventListener("click", leave);
}
