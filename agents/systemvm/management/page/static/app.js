// SPDX-License-Identifier: Apache-2.0
// The page: who is logged in, the section that is shown, and what redraws it.

import { wireAccounts } from "./accounts.js";
import { wireAlerts } from "./alerts.js";
import { ApiError, call, commands, forget, learnCommands, loggedIn, login, logout, user } from "./api.js";
import { wireCertificates } from "./certificates.js";
import { wireDetails } from "./details.js";
import { wireEvents } from "./events.js";
import { wireDomains } from "./domains.js";
import { askFields, wireFieldDialog } from "./field_dialog.js";
import { wireHosts } from "./hosts.js";
import { wireInfrastructure } from "./infrastructure.js";
import { wireKeys } from "./keys.js";
import { wireLimits } from "./limits.js";
import { concerns, follow, unfollow } from "./live.js";
import { wireMachines } from "./machines.js";
import { wireNetworks } from "./networks.js";
import { wireOfferings } from "./offerings.js";
import { wirePools } from "./pools.js";
import { wireRoles } from "./roles.js";
import { askForCode, forgetSecrets, wireSecondFactor } from "./second_factor.js";
import { wireSecretDialog } from "./secret_dialog.js";
import { isConcerned, openSections, refreshSection, wireSections } from "./sections.js";
import { wireSettings } from "./settings.js";
import { wirePolicies } from "./snapshot_policies.js";
import { wireSnapshots } from "./snapshots.js";
import { wireStores } from "./stores.js";
import { wireTemplates } from "./templates.js";
import { $, closeDialogs, onRefusal, toast, wireCancelButtons, wireCopyButtons } from "./ui.js";
import { endUploads, restoreUploads, wireUploads } from "./uploads.js";
import { wireVolumes } from "./volumes.js";
import { wireUsage } from "./usage.js";
import { wireUsers } from "./users.js";
import { wireActions } from "./work.js";
import { learnZones } from "./zone_choice.js";
import { wirePicture } from "./zone_picture.js";

const AGAIN_MS = 3000;
// `running` is a redrawing, after which there is another one if something has `changed` meanwhile.
// `zonesKnown` is whether the zones are those of now. `shownTo` is the id of the user whose data the document has.
// `leaving` is whether the user logs out, after which the document is loaded again.
const state = { open: false, zonesKnown: false, running: null, changed: false, timer: 0, shownTo: null, leaving: false };

function show(place) {
  $("#login").hidden = place !== "login";
  $("#code").hidden = place !== "code";
  $("#cloud").hidden = place !== "cloud";
  if (place === "login") forgetSecrets();
}

// ---- following the cloud ------------------------------------------------------------------------------------

// Redraw what is shown. Calls while it is redrawn become one.
function refresh() {
  state.changed = true;
  state.running ??= redraw().finally(() => { state.running = null; });
  return state.running;
}

async function redraw() {
  while (state.changed) {
    state.changed = false;
    clearTimeout(state.timer);
    if (!loggedIn()) close();
    else if (user().secondFactor) await showCode();
    else await showCloud();
  }
}

async function showCloud() {
  try {
    if (!state.open) await open();
    else if (!state.zonesKnown) await knowZones();
    await refreshSection();
    setLive(true);
  } catch (error) {
    if (error instanceof ApiError && error.code === 401) {
      forget();
      close();
      return;
    }
    setLive(false);
    state.timer = setTimeout(refresh, Math.max(AGAIN_MS, error.retryAfterMs ?? 0));
  }
  if (!loggedIn()) close(); // it has ended meanwhile
  else if (!user().secondFactor) show("cloud");
}

// What the user is allowed to do is learned once in each login.
async function open() {
  state.shownTo = user().id;
  await learnCommands();
  await knowZones();
  for (const button of document.querySelectorAll("[data-command]")) button.hidden = !commands().has(button.dataset.command);
  openSections();
  state.open = true;
  follow(onChange, refresh);
}

// A change that comes meanwhile has them learned again.
async function knowZones() {
  state.zonesKnown = true;
  try {
    await learnZones();
  } catch (error) {
    state.zonesKnown = false;
    throw error;
  }
}

function close() {
  state.open = state.zonesKnown = false;
  unfollow();
  setLive(false);
  clearTimeout(state.timer);
  closeDialogs();
  if (!state.leaving) show("login"); // what is typed there would be lost with the document
}

// Load the document again: the next user gets nothing of the one before, also not from fields that a browser keeps.
function startAnew() {
  document.body.hidden = true;
  for (const each of document.forms) each.reset();
  location.reload();
}

function onChange(tables) {
  const ofZones = concerns(tables, ["zones"]);
  if (ofZones) state.zonesKnown = false;
  if (!ofZones && !isConcerned(tables)) return;
  if (document.hidden) state.changed = true; // until someone looks
  else refresh();
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && state.open && state.changed) refresh();
});

function setLive(live) {
  $("#live").className = live ? "live" : "live off";
  $("#live").textContent = live ? "live" : "not connected";
}

// Ask for the second factor; a session that has ended meanwhile begins with the password again.
async function showCode() {
  if (!$("#code").hidden) return;
  show("code");
  try {
    await askForCode();
  } catch (error) {
    await leave();
    toast(error.message, true);
  }
}

async function leave() {
  await logout().catch(() => {});
  close();
}

// ---- what the user does --------------------------------------------------------------------------------------

// The page shows at once what a dialog has changed; the event does not bubble.
document.addEventListener("close", refresh, { capture: true });

wireActions(refresh);
onRefusal(refresh);
wireSections(refresh, () => state.open);
wireTemplates(refresh);
wireMachines(refresh);
wireVolumes(refresh);
wireSnapshots(refresh);
wireNetworks(refresh);
wireOfferings(refresh);
wireEvents(refresh);
wirePicture(refresh);
wireInfrastructure(refresh);
wireStores(refresh);
wirePools(refresh);
wireHosts(refresh);
wireAccounts(refresh);
wireUsers(refresh);
wireDomains(refresh);
wireRoles(refresh);
wireLimits(refresh);
wireUsage(refresh);
wireAlerts(refresh);
wireSettings(refresh);
wireCertificates();
wireDetails();
wireFieldDialog();
wireSecretDialog();
wirePolicies();
wireUploads(refresh);
wireKeys();
wireSecondFactor(refresh, leave);
wireCancelButtons();
wireCopyButtons();

function askPassword() {
  const anew = { type: "password", autocomplete: "new-password", required: true };
  askFields({
    title: "Change your password", verb: "Change",
    fields: [{ name: "current", data: { parameter: "currentpassword" }, label: "Current password", type: "password", autocomplete: "current-password", required: true },
      { name: "next", data: { parameter: "password" }, label: "New password", ...anew }, { name: "again", label: "New password again", ...anew }],
    async submit({ current, next, again }) {
      if (next !== again) throw new Error("new passwords differ: enter the same one twice");
      await call("updateUser", { id: user().id, currentpassword: current, password: next });
      toast("The password is changed. Your other logins have ended.");
    },
  });
}

$("#open-password").addEventListener("click", askPassword);
$("#logout").addEventListener("click", async () => {
  state.leaving = true;
  await logout().catch(() => {});
  endUploads();
  startAnew();
});
$("#login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const errorLine = $("#login-error");
  errorLine.hidden = true;
  const { username, password, domain } = Object.fromEntries(new FormData(event.target));
  try {
    await login(username, password, domain.trim());
    event.target.reset();
    restoreUploads();
    if (state.shownTo && state.shownTo !== user().id) startAnew();
    else await refresh();
  } catch (error) {
    errorLine.textContent = error.message;
    errorLine.hidden = false;
  }
});

if (loggedIn()) {
  restoreUploads();
  refresh();
} else show("login");
