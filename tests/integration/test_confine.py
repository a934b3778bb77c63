# SPDX-License-Identifier: Apache-2.0
"""Confined programs: they open the files that are named for them, and nothing else."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest

from systemvm.host import confine

LANDLOCK = ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
pytestmark = pytest.mark.skipif(LANDLOCK < 1, reason="the kernel has no Landlock")


def run(read: list[Path], write: list[Path], script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*confine.command(read, write), "/bin/sh", "-c", script], capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    source, target, other = (tmp_path / name for name in ("source", "target", "other"))
    for path in (source, target, other):
        path.write_text(path.name)
    return source, target, other


def test_named_files_are_read_and_written(files: tuple[Path, Path, Path]) -> None:
    source, target, _ = files
    done = run([source], [target], f"cat {source} > {target}; cat {target}; : > /dev/null")
    assert (done.returncode, done.stdout, done.stderr) == (0, "source", "")


@pytest.mark.parametrize(
    "script",
    ["cat {other}", "cat /etc/passwd", "echo x > {other}", "echo x > {source}", "ls {other.parent}",
     "touch {other.parent}/new", "mkdir {other.parent}/new", "ln -s {other} {other.parent}/b", "rm {other}"],
)  # fmt: skip
def test_anything_else_is_denied(files: tuple[Path, Path, Path], script: str) -> None:
    source, target, other = files
    done = run([source], [target], script.format(source=source, other=other))
    assert done.returncode != 0
    assert "denied" in done.stderr
    assert [path.read_text() for path in files] == ["source", "target", "other"]
    assert sorted(path.name for path in other.parent.iterdir()) == ["other", "source", "target"]


def test_a_file_that_replaces_a_named_one_is_denied(files: tuple[Path, Path, Path]) -> None:
    """The rule is of the file and not of its name: one that is moved into its place is another."""
    source, target, other = files
    waits = f'until [ -e {target} ] && read -r word < {target} && [ "$word" = go ]; do :; done; cat {source}'
    with subprocess.Popen(
        [*confine.command([source], [target]), "/bin/sh", "-c", f"echo ready; {waits}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        other.rename(source)
        target.write_text("go\n")
        output, errors = process.communicate(timeout=120)
    assert (output, "denied" in errors) == ("", True)


@pytest.mark.skipif(LANDLOCK < 4, reason="the kernel's Landlock has no rules for the network")
def test_connections_are_denied(files: tuple[Path, Path, Path]) -> None:
    program = "import socket; socket.create_connection(('127.0.0.1', 1))"
    done = run([files[0]], [], f'/usr/bin/env python3 -I -S -c "{program}"')
    assert "PermissionError" in done.stderr


def test_a_program_that_is_missing_is_named(files: tuple[Path, Path, Path]) -> None:
    done = subprocess.run(
        [*confine.command([files[0]], []), "absent-program"], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, "absent-program cannot be started" in done.stderr) == (127, True)
