// SPDX-License-Identifier: Apache-2.0
// The API keys of the user, each with a name, an end and a scope.

import { call, commands } from "./api.js";
import { element } from "./elements.js";
import { showSecret } from "./secret_dialog.js";
import { $, form, opening, show as showDialog, toast } from "./ui.js";

async function show(fits = () => true) {
  const { userkey = [] } = await call("listUserKeys");
  if (!fits()) return false;
  const dialog = $("#keys");
  dialog.querySelector("tbody").replaceChildren(...userkey.map((key) => {
    const remove = element("button", { type: "button", className: "danger", ariaLabel: `Delete ${key.name}` }, "Delete");
    remove.addEventListener("click", () => deleteKey(key));
    return element("tr", {}, element("td", {}, key.name), element("td", {}, key.enddate ?? "never"),
      element("td", {}, (key.rules ?? ["all"]).join(", ")), element("td", {}, commands().has("deleteUserKey") ? remove : ""));
  }));
  dialog.querySelector("table").hidden = !userkey.length;
  return true;
}

async function deleteKey({ id, name }) {
  try {
    await call("deleteUserKey", { id });
    await show();
    $("#keys [name=name]").focus();
    toast(`${name} is deleted.`);
  } catch (error) {
    toast(error.message, true);
  }
}

export function wireKeys() {
  $("#open-keys").addEventListener("click", async () => {
    try {
      if (await show(opening())) showDialog($("#keys"));
    } catch (error) {
      toast(error.message, true);
    }
  });
  form($("#keys"), async (data) => {
    const given = Object.fromEntries([...data].filter(([, value]) => value));
    const { userkey } = await call("createUserKey", given);
    showSecret({
      title: "The new API key", text: "Copy both now: nothing shows the secret key again.",
      values: [{ name: "apikey", label: "API key", value: userkey.apikey }, { name: "secretkey", label: "Secret key", value: userkey.secretkey }],
    });
  });
}
