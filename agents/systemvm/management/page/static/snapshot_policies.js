// SPDX-License-Identifier: Apache-2.0
// Policies of a volume, by which snapshots are taken regularly.

import { call, commands } from "./api.js";
import { element } from "./elements.js";
import { $, form, opening, show, titled, toast } from "./ui.js";

const INTERVALS = ["hourly", "daily", "weekly", "monthly"];

let volume = null; // {id, name} of the dialog

async function load(of, fits = () => true) {
  const { snapshotpolicy = [] } = await call("listSnapshotPolicies", { volumeid: of.id });
  if (!fits()) return false;
  const rows = snapshotpolicy.map((policy) => element("tr", {},
    element("td", {}, INTERVALS[policy.intervaltype]), element("td", {}, `${policy.schedule} ${policy.timezone}`),
    element("td", { className: "number" }, String(policy.maxsnaps)),
    element("td", {}, policy.nextrun ? new Date(policy.nextrun).toLocaleString() : ""),
    element("td", {}, commands().has("deleteSnapshotPolicies")
      ? element("button", { type: "button", className: "danger", data: { policy: policy.id } }, "Delete") : "")));
  $("#policies tbody").replaceChildren(...rows);
  $("#policies table").hidden = !rows.length;
  return true;
}

export async function showPolicies(id, name) {
  try {
    if (!(await load({ id }, opening()))) return;
    volume = { id, name };
    $("#policies h2").replaceChildren(...titled`Snapshots of ${name} by schedule`);
    show($("#policies"));
  } catch (error) {
    toast(error.message, true);
  }
}

// "MM", "MM:HH", "MM:HH:D" or "MM:HH:DD", as the API has it.
function schedule(interval, time, day) {
  const [hour, minute] = time.split(":");
  return [minute, ...(interval === "hourly" ? [] : [hour]), ...(["weekly", "monthly"].includes(interval) ? [day] : [])].join(":");
}

export function wirePolicies() {
  form($("#policies"), async (data) => {
    const { intervaltype, time, day, maxsnaps } = Object.fromEntries(data);
    const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
    await call("createSnapshotPolicy", { volumeid: volume.id, intervaltype, maxsnaps, timezone: timeZone,
      schedule: schedule(intervaltype, time, day) });
    toast(`${volume.name} gets ${intervaltype} snapshots.`);
  });
  $("#policies").addEventListener("click", async ({ target }) => {
    if (!target.dataset.policy) return;
    try {
      await call("deleteSnapshotPolicies", { id: target.dataset.policy });
      await load(volume);
    } catch (error) {
      toast(error.message, true);
    }
  });
}
