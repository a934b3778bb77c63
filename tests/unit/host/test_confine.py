# SPDX-License-Identifier: Apache-2.0
"""Confinement without a kernel that knows it; tests/integration/test_confine.py has the real one."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import pytest

from systemvm.host import confine


class OldKernel:
    """A C library whose kernel has no system call of Landlock."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def syscall(self, number: int, *_: Any) -> int:
        self.calls.append(number)
        return -1


def test_a_kernel_without_landlock_restricts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = OldKernel()
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: libc)
    assert confine.confine(["/absent"], []) is False
    assert len(libc.calls) == 1


def test_each_file_is_named_in_front_of_the_command() -> None:
    words = confine.command([Path("/a"), Path("/b c")], [Path("/d")])
    assert words[:4] == [sys.executable, "-I", "-S", confine.__file__]
    assert words[4:] == ["--read", "/a", "--read", "/b c", "--write", "/d", "--"]
