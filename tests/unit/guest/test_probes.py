# SPDX-License-Identifier: Apache-2.0
"""The write probe of a mount point."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from systemvm.guest import probes


def test_a_writable_directory_is_unchanged(tmp_path: Path) -> None:
    assert probes.write_file(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


def test_the_error_of_the_write_is_returned(tmp_path: Path) -> None:
    assert probes.write_file(tmp_path / "absent") == os.strerror(errno.ENOENT)


def test_a_writer_that_hangs_is_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(path: Path) -> str:
        signal.pause()
        return "ok"

    monkeypatch.setattr(probes, "_write_and_remove", hang)
    assert probes.write_file(tmp_path, timeout_s=0.1) == "no answer within 0.1 s"
