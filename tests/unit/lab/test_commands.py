# SPDX-License-Identifier: Apache-2.0
"""External commands: output, errors and timeouts."""

from __future__ import annotations

import sys

import pytest

from systemvm.lab.commands import run
from systemvm.lab.errors import LabError


def test_a_command_receives_input_and_environment() -> None:
    assert run("cat", stdin="a\nb\n") == "a\nb\n"
    assert run("/usr/bin/env", environment={"ONLY": "this"}) == "ONLY=this\n"


def test_a_failure_contains_the_commands_error_output() -> None:
    with pytest.raises(LabError, match=r"-c .*: no such thing$"):
        run(sys.executable, "-c", "raise SystemExit('no such thing')")


def test_a_program_that_is_not_installed_is_an_error() -> None:
    with pytest.raises(LabError, match=r"^systemvm-no-such-command is not installed$"):
        run("systemvm-no-such-command")


def test_a_command_is_killed_at_its_timeout() -> None:
    with pytest.raises(LabError, match="timed out"):
        run("sleep", "60", timeout_s=0.01)
