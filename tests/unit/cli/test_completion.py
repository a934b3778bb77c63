# SPDX-License-Identifier: Apache-2.0
"""Shell completion."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from fake_daemon import FakeDaemon
from systemvm.cli import daemon_client
from systemvm.cli.__main__ import main


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert "_SYSTEMVM_COMPLETE" in result.stdout


def _completed(monkeypatch: pytest.MonkeyPatch, line: str) -> str:
    """Return the completions of the last argument of `line`, as the script for bash receives them."""
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    monkeypatch.setenv("_SYSTEMVM_COMPLETE", "bash_complete")
    return CliRunner().invoke(main, [], prog_name="systemvm").stdout


def test_names_of_system_vms_are_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"name": "s-1-VM", "state": "Running"}, {"name": "v-2-VM", "state": "Running"}]
    monkeypatch.setattr(daemon_client, "unix_call", FakeDaemon(listSystemVms={"systemvm": rows}))
    assert "s-1-VM" in _completed(monkeypatch, "systemvm check S")
    assert "v-2-VM" not in _completed(monkeypatch, "systemvm check S")
    assert "v-2-VM:" in _completed(monkeypatch, "systemvm cp v")
    assert "v-2-VM" in _completed(monkeypatch, "systemvm certificate list v")


def test_completion_without_a_daemon_prints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_daemon(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(daemon_client, "unix_call", no_daemon)
    assert _completed(monkeypatch, "systemvm check s").strip() == ""
