// SPDX-License-Identifier: Apache-2.0
// The user's preferences, which the browser remembers for every console of this proxy. A browser without storage, or
// with a value of another time, uses the defaults.

const KEY = "console-preferences";
const MAX_LAYOUTS = 100;
const CHOICES = {
  scale: ["fit", "actual", "resize"],
  quality: ["balanced", "best", "lean"],
  theme: ["auto", "light", "dark"],
  bar: ["auto", "always", "never"],
  clipboard: ["ask", "same"],
  dot: ["yes", "no"],
};
// noVNC's levels: of JPEG, where the server has it, and of compression
export const QUALITY = { balanced: [6, 2], best: [9, 2], lean: [1, 9] };

function stored() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}

const kept = stored();
const layouts = new Map(Array.isArray(kept.layouts) ? kept.layouts.filter((each) => each?.length === 2) : []);

export const preferences = Object.fromEntries(
  Object.entries(CHOICES).map(([name, values]) => [name, values.includes(kept[name]) ? kept[name] : values[0]]),
);

function save() {
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...preferences, layouts: [...layouts] }));
  } catch {
    // the choice holds until the page is closed
  }
}

export function prefer(name, value) {
  preferences[name] = value;
  save();
}

// The layout that the user chose for a machine by its name; undefined when none was chosen.
export const layoutOf = (machine) => layouts.get(machine);

export function preferLayout(machine, layout) {
  layouts.delete(machine);
  layouts.set(machine, layout);
  if (layouts.size > MAX_LAYOUTS) layouts.delete(layouts.keys().next().value);
  save();
}
