# SPDX-License-Identifier: Apache-2.0
"""A program of the host that is absent, fails, or does not end."""

from __future__ import annotations

import pytest

from systemvm.host import programs
from systemvm.host.programs import run_program
from systemvm.service.unix_calls import RefusedError


def test_a_program_gets_its_input() -> None:
    run_program(["grep", "-q", "rule"], "grep", "cannot look", stdin="a rule\n")


def test_a_failure_has_the_end_of_what_the_program_wrote() -> None:
    command = ["sh", "-c", "head -c 9000 /dev/zero | tr '\\0' x >&2; echo 'no such chain' >&2; exit 1"]
    with pytest.raises(RefusedError, match=r"^cannot set the firewall: x+no such chain") as caught:
        run_program(command, "dash", "cannot set the firewall", hint="look at it")
    assert len(caught.value.message) < 600
    assert caught.value.hint == "look at it"


def test_an_absent_program_names_its_package() -> None:
    with pytest.raises(RefusedError, match="no-such-program is not installed") as caught:
        run_program(["no-such-program"], "no-such-package", "cannot look")
    assert caught.value.hint == "install Debian's no-such-package"


def test_a_program_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_TIMEOUT_S", 0.01)
    with pytest.raises(RefusedError, match=r"^cannot wait: sleep did not end within \d+ s"):
        run_program(["sleep", "infinity"], "coreutils", "cannot wait")
