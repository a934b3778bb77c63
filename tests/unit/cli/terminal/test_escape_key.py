# SPDX-License-Identifier: Apache-2.0
"""The key that leaves a serial console."""

from __future__ import annotations

import pytest

from systemvm.cli.terminal import escape_key


@pytest.mark.parametrize(
    ("text", "byte", "name"), [("^]", 0x1D, "Ctrl-]"), ("^a", 0x01, "Ctrl-A"), ("^A", 0x01, "Ctrl-A")]
)
def test_control_keys_are_written_with_a_caret(text: str, byte: int, name: str) -> None:
    assert escape_key.parse(text) == byte
    assert escape_key.describe(byte) == name


def test_none_is_no_key() -> None:
    assert escape_key.parse("none") is None


@pytest.mark.parametrize("text", ["", "^", "a", "^ä", "^ab", "^1", "~."])
def test_other_keys_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="control key"):
        escape_key.parse(text)
