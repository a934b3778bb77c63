// SPDX-License-Identifier: Apache-2.0
// Tables as CSV (RFC 4180).

// A spreadsheet would run what begins so as a formula; names come from users.
const FORMULA = new Set(["=", "+", "-", "@", "\t", "\r"]);

function field(value) {
  const text = String(value);
  const safe = typeof value === "string" && FORMULA.has(text[0]) ? `'${text}` : text;
  return [",", '"', "\n", "\r"].some((special) => safe.includes(special)) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function csv(rows) {
  return rows.map((row) => `${row.map(field).join(",")}\r\n`).join("");
}

// Have the browser save a text as a file.
export function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
