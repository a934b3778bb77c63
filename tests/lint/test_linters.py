# SPDX-License-Identifier: Apache-2.0
"""Every static check of the project is a test, so that `make check` is the one place to look."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]


def run(*command: str | Path) -> None:
    done = subprocess.run(
        [str(word) for word in command], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"


def tracked(*patterns: str) -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=TOP, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [TOP / name for name in listing.split("\0") if name and (TOP / name).is_file()]


def tool(name: str) -> str:
    """A program of the virtual environment that runs the tests, else of the system."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"{name} is not installed; `make setup` installs it"
    return found


def test_ruff_check() -> None:
    run(tool("ruff"), "check", "--quiet", ".")


def test_ruff_format() -> None:
    run(tool("ruff"), "format", "--check", "--quiet", ".")


def test_mypy_strict() -> None:
    run(sys.executable, "-m", "mypy")


def test_import_contracts() -> None:
    run(tool("lint-imports"), "--no-cache")


def test_shellcheck() -> None:
    shebangs = (b"#!/bin/sh", b"#!/usr/bin/env bash", b"#!/bin/bash")
    scripts = [
        path for path in tracked() if path.suffix == ".sh" or path.read_bytes()[:32].startswith(shebangs)
    ]
    assert scripts
    run(tool("shellcheck"), *scripts)


UNITS = sorted(tracked("systemd/*.service", "systemd/*.socket", "systemd/*.target", "systemd/*.mount"))


def test_units_verify(tmp_path: Path) -> None:
    """`systemd-analyze verify` on all units at once, so that they find one another.

    Programs live in the images or on an operator's host and not here: only that complaint is let pass.
    """
    assert UNITS
    search = tmp_path / "units"
    search.mkdir()
    for unit in UNITS:
        # one unit may stand in both appliances; the name decides
        text = unit.read_text()
        (search / unit.name).write_text(re.sub(r"^(Exec\w+=[-+!@]*)\S+", r"\1/bin/true", text, flags=re.M))
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", *sorted(search.iterdir())],
        env={"SYSTEMD_UNIT_PATH": f"{search}:/lib/systemd/system", "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    complaints = [
        line for line in done.stderr.splitlines() if str(search) in line or any(u.name in line for u in UNITS)
    ]
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("role", ["ssvm", "cpvm"])
def test_nftables_of_the_appliances_parse(role: str) -> None:
    run(tool("nft"), "--check", "--file", TOP / "appliances" / role / "nftables.conf")


def test_no_addresses_of_registries_or_machines() -> None:
    """A registry's host or a machine's path in a committed file would tie everyone to it."""
    bad = re.compile(
        rb"py" rb"pi\.org|python" rb"hosted|registry\.npm" rb"js|(?:deb|security|snapshot)\.debian" rb"\.org"
        rb"|(?:^|[^a-zA-Z.])/wo" rb"rk/|\bTO" rb"DO\b|\bFIX" rb"ME\b"
    )  # fmt: skip
    hits = [
        f"{path.relative_to(TOP)}: {m.group().decode()}"
        for path in tracked()
        if (m := bad.search(path.read_bytes()))
    ]
    assert not hits, "\n".join(hits)
