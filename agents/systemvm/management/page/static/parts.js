// SPDX-License-Identifier: Apache-2.0
// Parts of a section: one is shown, by the address of the page (`#/infrastructure/pods`), and only that one is loaded.

import { commands } from "./api.js";
import { element } from "./elements.js";

export class Parts {
  #section; #parts; #links;
  #permitted = [];
  #shown = null;

  // `section` is the name of the section, whose element has a `<nav class="parts">` and for each part an element with
  // its id as `data-part`. `parts` are {id, title, command, refresh} each; users see those whose `command` they are
  // allowed to call, and `refresh` loads and draws one.
  constructor(section, parts) {
    this.#section = document.querySelector(`section[data-section="${section}"]`);
    this.#parts = parts;
    this.#links = this.#section.querySelector("nav.parts");
  }

  get shown() {
    return this.#shown?.id;
  }

  // Show the part with this id, else the first one; returns whether another one was shown before.
  choose(id) {
    this.#draw(this.#parts.filter(({ command }) => commands().has(command)));
    const before = this.#shown;
    this.#shown = this.#permitted.find((part) => part.id === id) ?? this.#permitted[0] ?? null;
    for (const part of this.#section.querySelectorAll("[data-part]")) part.hidden = part.dataset.part !== this.#shown?.id;
    for (const link of this.#links.children) {
      if (link.dataset.to === this.#shown?.id) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    return this.#shown !== before;
  }

  async refresh() {
    await this.#shown?.refresh();
  }

  // A link that stays keeps the place of the keyboard.
  #draw(permitted) {
    if (permitted.length === this.#permitted.length && permitted.every((part, place) => part === this.#permitted[place])) return;
    this.#permitted = permitted;
    const { section } = this.#section.dataset;
    this.#links.replaceChildren(...permitted.map(({ id, title }) => element("a", { href: `#/${section}/${id}`, data: { to: id } }, title)));
  }
}
