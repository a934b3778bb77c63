// SPDX-License-Identifier: Apache-2.0
// A list of the API, which the daemon searches, sorts and pages: the document has the rows of one page only.

import { ApiError, call, commands } from "./api.js";
import { element } from "./elements.js";
import { draw, options } from "./ui.js";
import { busy, onBusy } from "./work.js";

const PAGE_SIZE = 20;
const TYPING_PAUSE_MS = 300;

// Return a function that loads a page of a list: `object` is the key of its rows, `given` its other parameters.
export function rowsOf(command, object, given = {}) {
  return async (parameters) => {
    const answer = await call(command, { ...given, ...parameters });
    const rows = answer[object] ?? [];
    return { rows, count: answer.count ?? rows.length };
  };
}

export class List {
  #place; #about; #body; #typed; #count; #previous; #next; #error; #empty;
  #headers = [];
  #rows = [];
  #keyword = "";
  #page = 1;
  #sort;
  #filters = {};
  #selected = new Set();
  #bulk = [];
  #asked = 0;
  #timer = 0;

  // `place` is an empty element. `about` has:
  // - `label`: what the rows are, for screen readers ("accounts");
  // - `load(parameters)`: returns {rows, count} of a page; see `rowsOf`;
  // - `columns`: {label, sort, cell(row, busy), className} each; `sort` is the key that `sortby` takes, and `cell`
  //   returns what the cell contains; or instead `card(row, busy)`, which returns an element, and `sorts`,
  //   pairs of key and label;
  // - `sort`: {by, descending} at first; without it the daemon's own order;
  // - `filters`: {name, label, choices, className} each, where choices are pairs of value and label, or {name, label,
  //   type, placeholder} of an input; their values are parameters of the list;
  // - `bulk`: {label, className, command, act(rows)} each, for selected rows, if the user is allowed to call `command`;
  // - `empty` and `nothing`: what is shown when there are no rows, and when none fits;
  // - `refresh`: loads the section again.
  constructor(place, about) {
    this.#place = place;
    this.#about = about;
    this.#sort = about.sort ?? null;
    for (const { name, choices } of about.filters ?? []) if (choices) this.#filters[name] = choices[0][0];
    this.#build();
    onBusy(() => this.#drawRows());
  }

  find(id) {
    return this.#rows.find((row) => row.id === id);
  }

  filter(name) {
    return this.#filters[name];
  }

  // Load and draw the page that is shown. Only the newest answer is drawn. An error of the list is shown in it.
  async refresh() {
    const mine = ++this.#asked;
    let answer;
    try {
      answer = await this.#about.load(this.#parameters());
    } catch (error) {
      if (!(error instanceof ApiError) || error.passes || error.code === 401) throw error;
      if (mine !== this.#asked) return;
      this.#error.textContent = error.message;
      this.#error.hidden = false;
      this.#place.ariaBusy = "false";
      return;
    }
    if (mine !== this.#asked) return;
    this.#error.hidden = true;
    if (!answer.rows.length && this.#page > 1) { // the last one of the last page is gone
      this.#page = Math.min(this.#page - 1, Math.max(1, Math.ceil(answer.count / PAGE_SIZE)));
      await this.refresh();
      return;
    }
    this.#draw(answer);
  }

  // Show the first page of what fits.
  #search() {
    clearTimeout(this.#timer);
    this.#keyword = this.#typed.value.trim();
    this.#page = 1;
    this.#selected.clear();
    this.#again();
  }

  #again() {
    this.#place.ariaBusy = "true";
    this.#about.refresh();
  }

  #parameters() {
    const given = Object.entries(this.#filters).filter(([, value]) => value);
    return {
      page: String(this.#page), pagesize: String(PAGE_SIZE), ...Object.fromEntries(given),
      ...(this.#keyword ? { keyword: this.#keyword } : {}),
      ...(this.#sort ? { sortby: this.#sort.by, sortorder: this.#sort.descending ? "desc" : "asc" } : {}),
    };
  }

  #draw({ rows, count }) {
    this.#rows = rows;
    this.#drawRows();
    const narrowed = this.#keyword || Object.keys(this.#filters).some((name) => this.#isNarrowed(name));
    this.#empty.textContent = narrowed ? this.#about.nothing ?? `No ${this.#about.label} fit.` : this.#about.empty;
    this.#empty.hidden = rows.length > 0;
    const first = (this.#page - 1) * PAGE_SIZE;
    this.#count.textContent = rows.length ? `${first + 1}–${first + rows.length} of ${count}` : "";
    this.#previous.disabled = this.#page === 1;
    this.#next.disabled = first + PAGE_SIZE >= count;
    this.#previous.parentElement.hidden = !rows.length;
    this.#place.ariaBusy = "false";
    const present = new Set(rows.map(({ id }) => id));
    for (const id of this.#selected) if (!present.has(id)) this.#selected.delete(id);
    this.#showSelection();
  }

  #drawRows() {
    draw(this.#body, this.#rows, (row, doing) => this.#render(row, doing), "", busy);
  }

  #isNarrowed(name) {
    const { choices } = this.#about.filters.find((filter) => filter.name === name);
    return this.#filters[name] && (!choices || this.#filters[name] !== choices[0][0]);
  }

  #render(row, doing) {
    const { card, columns, bulk } = this.#about;
    if (card) return card(row, doing);
    const cells = columns.map(({ cell, className, label }) => {
      const found = cell(row, doing);
      const content = Array.isArray(found) ? found : [found];
      return element("td", { role: "cell", className: className ?? "", data: { label } },
        ...content.filter((each) => each !== null && each !== undefined && each !== ""));
    });
    const choice = bulk ? [element("td", { role: "cell", className: "choice" }, element("input", {
      type: "checkbox", ariaLabel: `Select ${row.name ?? row.description}`, checked: this.#selected.has(row.id), data: { select: row.id } }))] : [];
    return element("tr", { className: "row", role: "row" }, ...choice, ...cells);
  }

  // ---- what is built once ------------------------------------------------------------------------------------

  #build() {
    const { label, card } = this.#about;
    this.#error = element("p", { className: "error", role: "alert", hidden: true });
    this.#empty = element("div", { className: "empty", hidden: true });
    this.#body = card ? element("div", { className: "cards" }) : element("tbody", { role: "rowgroup" });
    this.#count = element("span", { className: "muted", role: "status" });
    this.#previous = element("button", { type: "button", onclick: () => this.#turn(-1) }, "Previous");
    this.#next = element("button", { type: "button", onclick: () => this.#turn(1) }, "Next");
    const pages = element("nav", { className: "pages", ariaLabel: `Pages of ${label}`, hidden: true }, this.#previous, this.#count, this.#next);
    this.#place.classList.add("list");
    this.#place.append(this.#tools(), this.#error, card ? this.#body : this.#table(), this.#empty, pages);
    this.#place.addEventListener("change", ({ target }) => this.#choose(target));
  }

  #tools() {
    const { label, filters = [], sorts, bulk = [] } = this.#about;
    this.#typed = element("input", { type: "search", name: "keyword", ariaLabel: `Search ${label}`, placeholder: "Search",
      oninput: () => this.#type() });
    const inputs = filters.map((filter) => this.#filter(filter));
    if (sorts) inputs.push(this.#order(sorts));
    this.#bulk = bulk.map(({ label: verb, className, command, act }) => element("button", { type: "button", className: className ?? "", disabled: true, data: { command },
      onclick: () => act(this.#rows.filter(({ id }) => this.#selected.has(id))) }, verb));
    return element("form", { className: "tools", role: "search", onsubmit: (event) => {
      event.preventDefault();
      this.#type(0);
    } }, this.#typed, ...inputs, ...this.#bulk);
  }

  #filter({ name, label, className, choices, type, placeholder }) {
    const change = ({ target }) => {
      if (target.value === (this.#filters[name] ?? "")) return;
      this.#filters[name] = target.value;
      this.#search();
    };
    // Enter is a change in Chromium only, and submits no form with several fields and without a button
    const enter = (event) => event.key === "Enter" && change(event);
    const input = choices ? element("select", { name, onchange: change })
      : element("input", { name, type, placeholder, onchange: change, onkeydown: enter });
    if (choices) input.append(...options(choices.map(([id, text]) => ({ id, label: text }))));
    return element("label", { className: className ?? "" }, `${label} `, input);
  }

  #order(sorts) {
    const select = element("select", { onchange: () => {
      const [by, direction] = select.value.split(" ");
      this.#sort = by ? { by, descending: direction === "desc" } : null;
      this.#search();
    } });
    select.append(...options([{ id: "", label: "oldest first" }, ...sorts.flatMap(([key, text]) =>
      [{ id: key, label: `${text}, ascending` }, { id: `${key} desc`, label: `${text}, descending` }])]));
    return element("label", {}, "Order ", select);
  }

  #table() {
    const { columns, label, bulk } = this.#about;
    const headers = columns.map(({ label: text, sort, className }) => {
      const header = element("th", { scope: "col", role: "columnheader", className: className ?? "" },
        sort ? element("button", { type: "button", className: "sort", onclick: () => this.#sortBy(sort) }, text) : text);
      if (sort) this.#headers.push([sort, header]);
      return header;
    });
    this.#showSort();
    const choice = bulk ? [element("th", { scope: "col", role: "columnheader", className: "choice" },
      element("input", { type: "checkbox", ariaLabel: `Select all ${label} of this page`, data: { select: "*" } }))] : [];
    return element("table", { role: "table", ariaLabel: label[0].toUpperCase() + label.slice(1) },
      element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...choice, ...headers)), this.#body);
  }

  #showSort() {
    for (const [key, header] of this.#headers) {
      header.ariaSort = this.#sort?.by !== key ? "none" : this.#sort.descending ? "descending" : "ascending";
    }
  }

  // ---- what the user does ------------------------------------------------------------------------------------

  #type(pauseMs = TYPING_PAUSE_MS) {
    clearTimeout(this.#timer);
    if (this.#typed.value.trim() !== this.#keyword) this.#timer = setTimeout(() => this.#search(), pauseMs);
  }

  // Ascending, then descending, then as it was at first.
  #sortBy(key) {
    if (this.#sort?.by !== key) this.#sort = { by: key, descending: false };
    else if (!this.#sort.descending) this.#sort = { by: key, descending: true };
    else this.#sort = this.#about.sort?.by === key ? { by: key, descending: false } : this.#about.sort ?? null;
    this.#showSort();
    this.#search();
  }

  #turn(pages) {
    this.#page = Math.max(1, this.#page + pages); // two clicks can come before the first one's answer
    this.#selected.clear();
    this.#again();
  }

  #choose({ dataset, checked }) {
    if (!dataset.select) return;
    for (const { id } of dataset.select === "*" ? this.#rows : [{ id: dataset.select }]) {
      if (checked) this.#selected.add(id);
      else this.#selected.delete(id);
    }
    this.#showSelection();
  }

  #showSelection() {
    for (const box of this.#place.querySelectorAll("[data-select]")) {
      const { select } = box.dataset;
      box.checked = select === "*" ? this.#rows.length > 0 && this.#selected.size === this.#rows.length : this.#selected.has(select);
    }
    for (const button of this.#bulk) {
      button.disabled = !this.#selected.size;
      button.hidden = !commands().has(button.dataset.command);
    }
    this.#place.classList.toggle("unselectable", this.#bulk.every(({ hidden }) => hidden));
  }
}
