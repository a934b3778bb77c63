// SPDX-License-Identifier: Apache-2.0
// Lets xterm.js work by a content policy without inline styles: on the console's page, and on the cloud's.

// xterm.js makes <style> elements and style attributes, which the page's policy forbids. Both become what scripts may
// do: style sheets of the document, and properties of an element's style. (Its documentOverride does not reach all.)
HTMLSpanElement.prototype.setAttribute = function setAttribute(name, value) {
  if (name === "style") this.style.cssText = value;
  else Element.prototype.setAttribute.call(this, name, value);
};

document.createElement = function createElement(tag, options) {
  if (tag !== "style") return Document.prototype.createElement.call(document, tag, options);
  const element = Document.prototype.createElement.call(document, "span");
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  element.hidden = true;
  Object.defineProperty(element, "textContent", { set: (text) => sheet.replaceSync(text) });
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((each) => each !== sheet);
    Element.prototype.remove.call(element);
  };
  return element;
};
