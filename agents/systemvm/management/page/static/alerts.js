// SPDX-License-Identifier: Apache-2.0
// Alerts, for administrators, and whether they reach the people who must know of them.

import { call, commands } from "./api.js";
import { badge, element, problem } from "./elements.js";
import { List, rowsOf } from "./list.js";
import { addSection } from "./sections.js";
import { $, ask, draw, toast } from "./ui.js";

const COLUMNS = [
  { label: "Sent", sort: "sent", cell: (alert) => new Date(alert.sent).toLocaleString() },
  { label: "Type", sort: "name", cell: (alert) => alert.kind },
  { label: "What happened", className: "wide", sort: "description", cell: (alert) => alert.description },
];

// Alerts of a type have its name; for screen readers each is called by what happened.
async function loadAlerts(parameters) {
  const { rows, count } = await rowsOf("listAlerts", "alert")(parameters);
  return { rows: rows.map((alert) => ({ ...alert, kind: alert.name, name: alert.description })), count };
}

async function takeAway(command, alerts, question) {
  if (!(await ask(question, "The events of what happened stay.", command === "deleteAlerts" ? "Delete" : "Archive"))) return;
  try {
    await call(command, { ids: alerts.map(({ id }) => id).join(",") });
  } catch (error) {
    toast(error.message, true);
  }
}

function deliveryRow(delivery) {
  const times = [delivery.delivered ? `last delivered ${new Date(delivery.delivered).toLocaleString()}` : "none delivered yet",
    delivery.waiting ? `${delivery.waiting} waiting` : ""].filter(Boolean).join(" · ");
  return element("article", { className: "row" },
    element("div", {}, element("div", { className: "top" }, element("strong", {}, delivery.name), badge(delivery.state === "failing" ? "Error" : delivery.state)),
      element("small", {}, delivery.target)),
    element("div", {}, problem(delivery, true) ?? element("small", {}, times)));
}

async function refreshDeliveries() {
  const { alertdelivery = [] } = await call("listAlertDeliveries");
  draw($("#alert-deliveries"), alertdelivery.map((each) => ({ ...each, id: each.name })), deliveryRow,
    "No way out is set: see the settings alert.email.addresses and alert.webhook.url.");
}

const counted = (alerts) => (alerts.length === 1 ? "this alert" : `these ${alerts.length} alerts`);

// `refresh` redraws the page.
export function wireAlerts(refresh) {
  const after = (work) => async (alerts) => {
    await work(alerts);
    refresh();
  };
  const list = new List($("#alerts"), {
    label: "alerts", columns: COLUMNS, refresh, load: loadAlerts, empty: "There is no alert.",
    bulk: [
      { label: "Archive", command: "archiveAlerts", act: after((alerts) => takeAway("archiveAlerts", alerts, `Archive ${counted(alerts)}?`)) },
      { label: "Delete", className: "danger", command: "deleteAlerts", act: after((alerts) => takeAway("deleteAlerts", alerts, `Delete ${counted(alerts)}?`)) }],
  });
  addSection({ id: "alerts", title: "Alerts", command: "listAlerts", tables: ["events", "alert_deliveries", "configurations"],
    refresh: () => Promise.all([list.refresh(), commands().has("listAlertDeliveries") ? refreshDeliveries() : null]) });
}
