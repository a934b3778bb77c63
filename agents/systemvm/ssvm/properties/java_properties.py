# SPDX-License-Identifier: Apache-2.0
"""The text format of java.util.Properties.

Written here because the package javaproperties imports urllib, http.client and an XML parser with it, which a
root helper would keep in memory for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f"}
_UNESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}
_LINE_END = re.compile(r"\r\n|\r|\n")  # and none of the other characters that str.splitlines knows
_HEX = re.compile(r"[0-9A-Fa-f]{4}")


def render(values: Mapping[str, str]) -> str:
    """Return the text of `values`; everything outside of printable ASCII is escaped."""
    return "".join(f"{_escape(key, True)}={_escape(value, False)}\n" for key, value in values.items())


def parse(text: str) -> dict[str, str]:
    """Return the keys and values of a text with comments, continued lines and escapes."""
    values: dict[str, str] = {}
    continued = ""
    for raw in (*_LINE_END.split(text), ""):  # a continued line can be the last one
        line = continued + raw.lstrip(" \t\f")
        continued = ""
        if not line or line[0] in "#!":
            continue
        if (len(line) - len(line.rstrip("\\"))) % 2:
            continued = line[:-1]
            continue
        key, value = _split(line)
        values[_unescape(key)] = _unescape(value)
    return values


def _split(line: str) -> tuple[str, str]:
    position = 0
    while position < len(line) and line[position] not in "=: \t\f":
        position += 2 if line[position] == "\\" else 1
    rest = line[position:].lstrip(" \t\f")
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(" \t\f")
    return line[:position], rest


def _escape(text: str, is_key: bool) -> str:
    parts = []
    for index, character in enumerate(text):
        if character in _ESCAPES:
            parts.append(_ESCAPES[character])
        elif character in "=:#!" or (character == " " and (is_key or index == 0)):
            parts.append("\\" + character)
        elif " " <= character <= "~":
            parts.append(character)
        else:
            units = character.encode("utf-16-be", "surrogatepass")
            parts += [f"\\u{units[i]:02X}{units[i + 1]:02X}" for i in range(0, len(units), 2)]
    return "".join(parts)


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    parts, position = [], 0
    while position < len(text):
        character = text[position]
        position += 1
        if character != "\\" or position == len(text):
            parts.append(character)
            continue
        escaped = text[position]
        position += 1
        digits = _HEX.match(text, position) if escaped == "u" else None
        if digits is not None:
            parts.append(chr(int(digits[0], 16)))
            position += 4
            continue
        parts.append(_UNESCAPES.get(escaped, escaped))
    # pairs of UTF-16 units become single characters
    return "".join(parts).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
