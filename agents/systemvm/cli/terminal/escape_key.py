# SPDX-License-Identifier: Apache-2.0
"""The key that leaves a serial console, as `virsh console` and telnet write it: ^]."""

from __future__ import annotations

DEFAULT = "^]"
NONE = "none"


def parse(text: str) -> int | None:
    """Return the byte that the key sends; None for `none`.

    Raises: ValueError when it is not a control key.
    """
    if text == NONE:
        return None
    if len(text) == 2 and text[0] == "^" and "@" <= text[1].upper() <= "_":
        return ord(text[1].upper()) - ord("@")
    raise ValueError(f"{text!r} is not a control key such as ^] or ^A")


def describe(byte: int) -> str:
    return f"Ctrl-{chr(byte + ord('@'))}"
