// SPDX-License-Identifier: Apache-2.0
// Sections of the page: one is shown, by the hash of the address (`#/events`), and only that one is loaded.

import { commands } from "./api.js";
import { element } from "./elements.js";
import { concerns } from "./live.js";
import { $ } from "./ui.js";

const sections = [];
let shown = null;

// Add a section: `id` is its name in the address and that of `<section data-section>`, `title` is shown in the
// navigation, and users see it who are allowed to call `command`. `tables` are those whose changes concern it, and
// `refresh` loads and draws it. `opened` is called before that when it was not shown, and `chosen` with what follows its
// name in the address (`#/SECTION/…`): it returns whether other content is shown then.
export function addSection({ id, title, command, tables, refresh, opened = () => {}, chosen = () => false }) {
  sections.push({ id, title, command, tables, refresh, opened, chosen });
}

const permitted = () => sections.filter(({ command }) => commands().has(command));
const place = ({ id }) => $(`section[data-section="${id}"]`);

// Show the navigation and the section that the address names, else the first one.
export function openSections() {
  const links = permitted().map(({ id, title }) => element("a", { href: `#/${id}`, data: { to: id } }, title));
  $("#sections").replaceChildren(...links);
  choose();
}

// Returns whether another section, or other content of it, is shown.
function choose() {
  const before = shown;
  const [wanted, rest = ""] = location.hash.slice(2).split("/");
  shown = permitted().find(({ id }) => id === wanted) ?? permitted()[0] ?? null;
  for (const section of sections) place(section).hidden = section !== shown;
  for (const link of $("#sections").children) {
    if (link.dataset.to === shown?.id) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" }); // they are one line on a narrow screen
    } else link.removeAttribute("aria-current");
  }
  if (shown !== before) shown?.opened();
  const isOther = shown?.chosen(rest) ?? false;
  document.title = shown ? `${shown.title} · systemvm` : "systemvm";
  return isOther || shown !== before;
}

// Load and draw the section that is shown.
export async function refreshSection() {
  await shown?.refresh();
}

// Whether a change of these tables concerns what is shown.
export const isConcerned = (tables) => shown !== null && concerns(tables, shown.tables);

// `refresh` is called when the user has chosen a section, while `isOpen`: also before the first one is loaded and seen.
export function wireSections(refresh, isOpen) {
  window.addEventListener("hashchange", () => {
    if (!isOpen()) return; // the address is read when it opens
    const before = shown;
    if (!choose()) return;
    if (shown !== before) {
      window.scrollTo(0, 0);
      place(shown).querySelector("h2").focus({ preventScroll: true });
    }
    refresh();
  });
}
