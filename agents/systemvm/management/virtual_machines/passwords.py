# SPDX-License-Identifier: Apache-2.0
"""Passwords that the cloud gives to guests: what they look like, and which of a user's can be one."""

from __future__ import annotations

import secrets

LENGTH = 16
MAX_LENGTH = 255
#: Without those that look alike on a console.
_CHARACTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
#: The password server's own answers, and the mark that no password waits.
_ANSWERS = ("saved_password", "bad_request")


def new_password() -> str:
    """Return a random password."""
    return "".join(secrets.choice(_CHARACTERS) for _ in range(LENGTH))


def check_password(text: str) -> None:
    """Check that a guest gets this password as it was given: the password server answers it in a line.

    Raises: ValueError when it does not.
    """
    if not 1 <= len(text) <= MAX_LENGTH:
        raise ValueError(f"it has {len(text)} characters, it must have 1 to {MAX_LENGTH}")
    if not text.isprintable() or text != text.strip():
        raise ValueError("it must have no line break or other control character, and no space at its ends")
    if text in _ANSWERS:
        raise ValueError("it is a word of the password server")
