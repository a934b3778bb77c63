// SPDX-License-Identifier: Apache-2.0
// Short messages, questions, forms in dialogs, and lists that are redrawn by key.

export const $ = (selector) => document.querySelector(selector);

export function toast(text, bad = false) {
  const line = document.createElement("p");
  line.textContent = text;
  line.classList.toggle("bad", bad);
  $("#toasts").append(line);
  setTimeout(() => line.remove(), bad ? 12000 : 5000);
}

// Redraw a list by key. An element whose data did not change is kept, so that nothing flickers and a button stays
// under the pointer. `busy` has what is being done with an item, by its id.
export function draw(container, items, render, empty, busy = new Map()) {
  const old = new Map([...container.children].filter((e) => e.dataset.id).map((e) => [e.dataset.id, e]));
  const next = items.map((item) => {
    const text = JSON.stringify([item, busy.get(item.id) ?? ""]);
    const had = old.get(item.id);
    if (had?.dataset.text === text) return had;
    const element = render(item, busy.get(item.id));
    element.dataset.id = item.id;
    element.dataset.text = text;
    return element;
  });
  if (!next.length && empty) {
    const nothing = document.createElement("div");
    nothing.className = "empty";
    nothing.textContent = empty;
    next.push(nothing);
  }
  replaceRows(container, next);
}

// Give the keyboard's place back to what had these data, else to another button of its object, else to the heading.
function focusAgain({ action, target, select }, place) {
  const of = (name, value) => `[data-${name}="${CSS.escape(value)}"]`;
  const buttons = target ? [...place.querySelectorAll(of("target", target))] : [];
  const same = select ? place.querySelector(of("select", select)) : buttons.find((button) => button.dataset.action === action);
  (same ?? buttons[0] ?? place.closest("section")?.querySelector("h2"))?.focus({ preventScroll: true });
}

// A row that stays is not moved: what is focused or selected in it stays so. The focus of a button whose row was drawn
// again goes to the same button.
function replaceRows(container, next) {
  const focused = container.contains(document.activeElement) ? { ...document.activeElement.dataset } : null;
  const staying = new Set(next);
  for (const old of [...container.children]) if (!staying.has(old)) old.remove();
  let after = container.firstElementChild;
  for (const row of next) {
    if (row === after) after = after.nextElementSibling;
    else container.insertBefore(row, after);
  }
  if (focused && !container.contains(document.activeElement)) focusAgain(focused, container);
}

const shown = new WeakMap(); // by dialog: how often it was opened
let turn = Promise.resolve(); // after the last of the dialogs that wait for each other
let closings = 0;
let openings = 0;

const openDialog = () => document.querySelector("dialog[open]");
const timesShown = (dialog) => shown.get(dialog) ?? 0;

// Returns whether the user who is there now has not gone since.
export function presence() {
  const began = closings;
  return () => began === closings;
}

// Begin to open a dialog, before the first wait for what it shows. What is returned tells whether it can still open:
// not when the user has gone, has opened another dialog, or has asked for one later.
export function opening() {
  openings += 1;
  const [mine, present] = [openings, presence()];
  return () => mine === openings && present() && !openDialog();
}

// Open a dialog. When it closes and its opener was drawn again meanwhile, the new one has the keyboard's place.
export function show(dialog) {
  shown.set(dialog, timesShown(dialog) + 1);
  const opener = document.activeElement;
  const ok = dialog.querySelector("button[value=ok]");
  if (ok) ok.disabled = false; // also before the event of its last close has come, which waits for the next frame
  dialog.showModal();
  dialog.addEventListener("close", () => {
    const section = $("main > section:not([hidden])");
    const { activeElement } = document; // what had the focus in the dialog can have it until the next frame
    if (!opener.isConnected && section && (activeElement === document.body || dialog.contains(activeElement))) focusAgain(opener.dataset, section);
  }, { once: true });
}

// Show a dialog after all that are open or wait, and return the value that it was closed with. `fill` writes its texts;
// `present` tells whether who caused it is still there.
export function showInTurn(dialog, fill, present = presence()) {
  const use = turn.then(async () => {
    while (present() && openDialog()) await new Promise((done) => document.addEventListener("close", done, { once: true, capture: true }));
    if (!present()) return "cancel";
    fill();
    dialog.returnValue = "cancel";
    show(dialog);
    return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue), { once: true }));
  });
  turn = use;
  return use;
}

// Close all dialogs, also those that wait for their turn.
export function closeDialogs() {
  closings += 1;
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close("cancel");
}

// A title with names in it: the letters of each have their own direction, whatever is around them.
export const titled = (texts, ...names) => texts.flatMap((text, place) => (place < names.length
  ? [text, Object.assign(document.createElement("bdi"), { textContent: names[place] })] : [text]));

// Return whether the user agrees. A question waits until the one before it is answered.
export async function ask(title, text, verb) {
  const dialog = $("#confirm");
  const answer = await showInTurn(dialog, () => {
    dialog.querySelector("h2").replaceChildren(...[title].flat());
    dialog.querySelector("p").textContent = text;
    dialog.querySelector(".danger").textContent = verb;
  });
  return answer === "ok";
}

let refused = () => {};

// Do something when a form was refused: its session can have ended.
export function onRefusal(work) {
  refused = work;
}

const clearing = new WeakMap(); // by dialog: takes its error away

// Take the error of a dialog away.
export const clearError = (dialog) => clearing.get(dialog)();

// The visible field of a parameter: of its name, or of the parameters in its `data-parameter`; an entry of a map has that
// of its key.
function fieldOf(dialog, parameter) {
  const name = CSS.escape(parameter.split("].").at(-1));
  const fields = dialog.querySelectorAll(`:is([name="${name}"], [data-parameter~="${name}"]):enabled:not([type=hidden])`);
  return [...fields].find((field) => !field.closest("[hidden]"));
}

// Returns a function that shows an error in a dialog: below the field whose value the daemon refused, which gets the
// keyboard's place, else where the document has the line.
function errorIn(dialog) {
  const line = dialog.querySelector(".error");
  const home = line.nextElementSibling;
  line.id = `${dialog.id}-error`;
  clearing.set(dialog, () => {
    line.hidden = true;
    home.before(line);
    for (const field of dialog.querySelectorAll("[aria-invalid]")) {
      field.removeAttribute("aria-invalid");
      field.removeAttribute("aria-describedby");
    }
  });
  return ({ message, parameter }) => {
    line.textContent = message;
    line.hidden = false;
    const field = parameter ? fieldOf(dialog, parameter) : null;
    if (!field) return;
    (field.closest(".pair") ?? field.closest("label") ?? field).after(line);
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-describedby", line.id);
    field.focus();
  };
}

// Do something after each close of a dialog, but not when it is open again: the event waits for the next frame.
export function afterClose(dialog, work) {
  dialog.addEventListener("close", () => {
    if (!dialog.open) work();
  });
}

// Have a dialog's form call `submit` with its FormData; an error is shown in the dialog, which stays open.
// One that comes when the dialog was closed meanwhile is shown as a message, and the next use of it goes on.
export function form(dialog, submit) {
  const button = dialog.querySelector("button[value=ok]");
  const showError = errorIn(dialog);
  afterClose(dialog, () => clearError(dialog));
  dialog.addEventListener("submit", async (event) => {
    if (event.submitter?.value !== "ok") return;
    event.preventDefault();
    const mine = timesShown(dialog);
    const goesOn = () => dialog.open && mine === timesShown(dialog);
    clearError(dialog);
    button.disabled = true;
    try {
      await submit(new FormData(event.target));
      if (!goesOn()) return;
      event.target.reset();
      dialog.close();
    } catch (error) {
      if (error.code === 401) refused();
      if (!goesOn()) {
        toast(error.message, true);
        return;
      }
      showError(error);
    } finally {
      if (goesOn()) button.disabled = false;
    }
  });
}

// Do something at each click; an error is shown as a message.
export function onClick(selector, work) {
  $(selector).addEventListener("click", async () => {
    try {
      await work();
    } catch (error) {
      toast(error.message, true);
    }
  });
}

export function options(items) {
  return items.map((item) => new Option(item.label, item.id));
}

// A button with `data-copy` copies the field of that name in its dialog.
export function wireCopyButtons() {
  document.addEventListener("click", async ({ target }) => {
    if (!target.dataset.copy) return;
    const field = target.closest("dialog").querySelector(`[name="${CSS.escape(target.dataset.copy)}"]`);
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      toast("Copied.");
    } catch {
      toast("The text is selected: copy it with Ctrl-C."); // a page without TLS has no clipboard
    }
  });
}

// Close buttons never submit: their form can be incomplete.
export function wireCancelButtons() {
  for (const button of document.querySelectorAll("dialog button[value=cancel]")) {
    button.type = "button";
    button.addEventListener("click", () => button.closest("dialog").close("cancel"));
  }
}
