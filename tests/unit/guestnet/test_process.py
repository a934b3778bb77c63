# SPDX-License-Identifier: Apache-2.0
"""How a process is found again that outlived this program."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from systemvm.guestnet.process import process_of


@pytest.fixture
def pid_file(tmp_path: Path) -> Iterator[Path]:
    """The file of a process with a few arguments."""
    script = "print(flush=True); import time; time.sleep(600)"
    command = [sys.executable, "-c", script, "--metadata", "data", "10.13.0.1", "10.14.0.1", "--descriptors"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        path = tmp_path / "pid"
        path.write_text(str(process.pid))
        yield path
        process.kill()


@pytest.mark.parametrize(
    ("arguments", "is_it"),
    [
        (["--metadata", "data"], True),
        (["--metadata", "data", "10.13.0.1", "10.14.0.1", "--descriptors"], True),
        (["--metadata", "data", "10.13.0.1", "--descriptors"], False),  # it serves more than is wanted
        (["--metadata", "data", "10.14.0.1", "--descriptors"], False),
        (["--metadata", "other"], False),
    ],
)
def test_a_process_is_found_by_all_of_its_arguments(
    pid_file: Path, arguments: list[str], is_it: bool
) -> None:
    with process_of(pid_file, arguments) as process:
        assert (process is not None) == is_it
