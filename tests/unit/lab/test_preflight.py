# SPDX-License-Identifier: Apache-2.0
"""Requirements of the lab that are missing on this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from systemvm.lab import preflight


def test_all_missing_requirements_are_reported_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "MEMORY_BYTES", 1 << 60)
    monkeypatch.setattr(preflight, "DISK_BYTES", 1 << 60)
    monkeypatch.setattr(preflight, "COMMANDS", {"no-such-program": "no-such-package"})
    monkeypatch.setattr(preflight, "FILES", {"/no/such/file": "another-package"})
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    lines = preflight.missing(tmp_path / "not" / "yet" / "there", [])
    assert [line.split(":")[0] for line in lines] == [
        "root",
        "memory",
        "disk",
        "no-such-program",
        "/no/such/file",
    ]
    assert "install Debian's no-such-package" in lines[3]


def test_programs_are_not_required_before_the_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "COMMANDS", {"no-such-program": "no-such-package"})
    assert not any("no-such-program" in line for line in preflight.missing(tmp_path, [], installed=False))


def test_preflight_runs_with_the_standard_library_only(tmp_path: Path) -> None:
    """`make run` calls it by path before a virtual environment exists."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", preflight.__file__, str(tmp_path)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr
    assert all(line.startswith("missing  ") for line in done.stderr.splitlines())
