// SPDX-License-Identifier: Apache-2.0
// A copy of a template, an ISO or a snapshot in another zone.

import { call } from "./api.js";
import { opening } from "./field_dialog.js";
import { titled, toast } from "./ui.js";

// Ask for another zone than that of {id, name, zoneid}, and copy it there by the command.
export async function copyToZone({ id, name, zoneid }, command) {
  const open = opening();
  const { zone = [] } = await call("listZones");
  const others = zone.filter((each) => each.id !== zoneid);
  if (!others.length) {
    toast("There is no other zone that it can be copied to", true);
    return;
  }
  open({
    title: titled`Copy ${name} to another zone`, verb: "Copy",
    fields: [{ name: "destzoneid", label: "Zone", choices: others.map((each) => [each.id, each.name]), required: true }],
    async submit(values) {
      await call(command, { id, ...values });
      toast(`${name} is being copied.`);
    },
  });
}
