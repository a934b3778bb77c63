// SPDX-License-Identifier: Apache-2.0
// The machine's power state, and what the session's user may do: the daemon decides both, for each request.

const LABELS = { start: "Start", reboot: "Reboot", stop: "Shut down", reset: "Reset", turn_off: "Turn off" };
const TITLES = {
  start: "Start the virtual machine",
  reboot: "Ask the guest to shut down, and start it again",
  stop: "Ask the guest to shut down",
  reset: "Turn it off without asking the guest, and start it again",
  turn_off: "Turn it off without asking the guest",
};
const WITHOUT_ASKING = new Set(["reset", "turn_off"]);
const LOOK_EVERY_MS = 2_000;

const element = (id) => document.getElementById(id);

export class Power {
  // `base` is the console's path, `session` returns the session.
  constructor(base, session) {
    this._base = base;
    this._session = session;
    this._timer = 0;
    this._asked = "";
    this._panel = element("power");
    this._panel.addEventListener("toggle", ({ newState }) => {
      clearTimeout(this._timer);
      if (newState === "open") this._look();
    });
  }

  async _post(action) {
    const form = new URLSearchParams({ cmd: "power", session: this._session().id, ...(action ? { action } : {}) });
    const headers = { Accept: "application/json" };
    const request = { method: "POST", headers, body: form, credentials: "same-origin", cache: "no-store" };
    const answer = await fetch(`${this._base}console`, request).catch(() => null);
    const body = await answer?.json().catch(() => null);
    if (answer?.ok) return body;
    element("power-state").textContent = body?.title ?? "The console proxy cannot be reached";
    return null;
  }

  // While the panel is open the state follows the machine's.
  async _look() {
    const power = await this._post();
    if (power) {
      element("power-state").textContent = power.state;
      this._show(power.actions);
    }
    if (this._panel.matches(":popover-open")) this._timer = setTimeout(() => this._look(), LOOK_EVERY_MS);
  }

  _show(actions) {
    element("power-none").hidden = actions.length > 0;
    const shown = actions.join();
    if (this._panel.dataset.actions === shown) return; // a button keeps the keyboard's place
    this._panel.dataset.actions = shown;
    element("power-actions").replaceChildren(...actions.map((action) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = LABELS[action] ?? action;
      button.title = TITLES[action] ?? "";
      button.dataset.action = action;
      button.addEventListener("click", () => this._act(action, button));
      return button;
    }));
  }

  // What does not ask the guest can lose data: it is asked twice.
  async _act(action, button) {
    if (WITHOUT_ASKING.has(action) && this._asked !== action) {
      this._asked = action;
      button.textContent = `${LABELS[action]}: press again`;
      return;
    }
    this._asked = "";
    if (!(await this._post(action))) return;
    element("power-state").textContent = `${LABELS[action]}…`;
    this._show([]);
    element("power-none").hidden = true;
  }
}
