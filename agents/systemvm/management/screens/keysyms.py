# SPDX-License-Identifier: Apache-2.0
"""What X11's names of keys stand for (X11/keysymdef.h): `udiaeresis` is ü, `dead_acute` precedes a letter."""

from __future__ import annotations

import re
import unicodedata

_SYMBOLS = {
    "space": " ", "exclam": "!", "quotedbl": '"', "numbersign": "#", "dollar": "$", "percent": "%",
    "ampersand": "&", "apostrophe": "'", "quoteright": "'", "parenleft": "(", "parenright": ")",
    "asterisk": "*", "plus": "+", "comma": ",", "minus": "-", "period": ".", "slash": "/", "colon": ":",
    "semicolon": ";", "less": "<", "equal": "=", "greater": ">", "question": "?", "at": "@",
    "bracketleft": "[", "backslash": "\\", "bracketright": "]", "asciicircum": "^", "underscore": "_",
    "grave": "`", "quoteleft": "`", "braceleft": "{", "bar": "|", "braceright": "}", "asciitilde": "~",
    "nobreakspace": "\u00a0", "exclamdown": "¡", "cent": "¢", "sterling": "£", "currency": "¤", "yen": "¥",
    "brokenbar": "¦", "section": "§", "diaeresis": "¨", "copyright": "©", "ordfeminine": "ª",
    "guillemotleft": "«", "guillemetleft": "«", "notsign": "¬", "registered": "®", "macron": "¯",
    "degree": "°", "plusminus": "±", "onesuperior": "¹", "twosuperior": "²", "threesuperior": "³",
    "acute": "´", "mu": "µ", "paragraph": "¶", "periodcentered": "·", "cedilla": "¸", "masculine": "º",
    "ordmasculine": "º", "guillemotright": "»", "guillemetright": "»", "onequarter": "¼", "onehalf": "½",
    "threequarters": "¾", "questiondown": "¿", "multiply": "×", "division": "÷", "ssharp": "ß", "AE": "Æ",
    "ae": "æ", "OE": "Œ", "oe": "œ", "ETH": "Ð", "eth": "ð", "THORN": "Þ", "thorn": "þ", "Ooblique": "Ø",
    "Oslash": "Ø", "oslash": "ø", "ooblique": "ø", "EuroSign": "€", "idotless": "ı",
}  # fmt: skip
_ACCENTS = {
    "grave": "GRAVE", "acute": "ACUTE", "circumflex": "CIRCUMFLEX", "tilde": "TILDE",
    "diaeresis": "DIAERESIS", "ring": "RING ABOVE", "cedilla": "CEDILLA", "caron": "CARON",
    "ogonek": "OGONEK", "breve": "BREVE", "macron": "MACRON", "abovedot": "DOT ABOVE",
    "doubleacute": "DOUBLE ACUTE", "stroke": "STROKE",
}  # fmt: skip
_ACCENTED = re.compile(f"([A-Za-z])({'|'.join(_ACCENTS)})")
_BY_CODE = re.compile("U([0-9A-Fa-f]{4,6})")
#: The combining character of each dead key, and the character that the key and then Space make.
DEAD_KEYS = {
    "dead_grave": ("\u0300", "`"),
    "dead_acute": ("\u0301", "´"),
    "dead_circumflex": ("\u0302", "^"),
    "dead_tilde": ("\u0303", "~"),
    "dead_diaeresis": ("\u0308", "¨"),
    "dead_abovering": ("\u030a", "°"),
    "dead_caron": ("\u030c", "ˇ"),
    "dead_cedilla": ("\u0327", "¸"),
}


def character(name: str) -> str | None:
    """Return the character of a key's name; None when the key makes none, or none that is known here."""
    if len(name) == 1:
        return name
    if name in _SYMBOLS:
        return _SYMBOLS[name]
    if code := _BY_CODE.fullmatch(name):
        point = int(code[1], 16)
        return chr(point) if point <= 0x10FFFF and not 0xD800 <= point <= 0xDFFF else None
    if accented := _ACCENTED.fullmatch(name):
        letter, accent = accented.groups()
        case = "CAPITAL" if letter.isupper() else "SMALL"
        try:
            return unicodedata.lookup(f"LATIN {case} LETTER {letter.upper()} WITH {_ACCENTS[accent]}")
        except KeyError:
            return None
    return None
