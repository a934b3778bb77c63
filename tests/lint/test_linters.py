# SPDX-License-Identifier: Apache-2.0
"""Every static check of the project, for `make check`.

Each needs only the virtual environment. Checks with Debian's programs are in
tests/integration/test_configuration_files.py.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


def run(*command: str | Path) -> None:
    done = subprocess.run(
        [str(argument) for argument in command], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"


def tracked(*patterns: str) -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=TOP, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [TOP / name for name in listing.split("\0") if name and (TOP / name).is_file()]


def tool(name: str) -> str:
    """Return the path of a program of the virtual environment that runs the tests, else of the system."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"{name} is missing: the virtual environment is older than agents/locks/host.txt"
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


def test_no_addresses_of_registries_or_machines() -> None:
    """A committed file must not depend on one registry or machine."""
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


def test_unit_tests_do_not_sleep() -> None:
    """A sleep is too short on a busy machine and too long on others; use tests/settling.py instead."""
    sleeps = {"time.sleep", "asyncio.sleep", "sleep", "deferLater", "task.deferLater"}
    found = [
        f"{path.relative_to(TOP)}:{call.lineno}: {ast.unparse(call)}"
        for path in tracked("tests/unit/*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in sleeps
    ]
    assert not found, "\n".join(found)


def test_programs_in_strings_import_existing_names() -> None:
    """mypy does not check programs in strings, so a rename can miss them."""
    missing = []
    for path in tracked("tests/*.py"):
        for module, names in re.findall(r"from (systemvm[\w.]*) import ([\w, ]+)", path.read_text()):
            folder = TOP / "agents" / module.replace(".", "/")
            file = folder.with_suffix(".py") if folder.with_suffix(".py").exists() else folder / "__init__.py"
            text = file.read_text() if file.exists() else ""
            missing += [
                f"{path.relative_to(TOP)}: {module} has no {name}"
                for name in (part.split(" as ")[0].strip() for part in names.split(","))
                if name
                and not re.search(rf"\b{name}\b", text)
                and not (folder / f"{name}.py").exists()
                and not (folder / name).is_dir()
            ]
    assert not missing, "\n".join(missing)
