# SPDX-License-Identifier: Apache-2.0
"""The fixture that runs the command line against a FakeDaemon."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from systemvm.cli import daemon_client
from systemvm.cli.__main__ import main


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that runs `systemvm`; its first argument replaces the client of the daemon."""

    def invoke(daemon: Callable[..., Any], *arguments: str, standard_input: str = "") -> Result:
        monkeypatch.setattr(daemon_client, "unix_call", daemon)
        monkeypatch.setattr(time, "sleep", lambda _: None)
        runner = CliRunner(env={"COLUMNS": "200"})
        return runner.invoke(main, ["--root", "/nowhere", *arguments], input=standard_input)

    return invoke
