# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the console tests: a console in a process of its own, and a screen that echoes."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.vnc_server import FakeVncServer, shake_hands


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleProcess]:
    console = ConsoleProcess(tmp_path_factory.mktemp("console"))
    yield console
    log = console.log()
    console.close()
    assert "Traceback" not in log, log


def echo(screen: socket.socket) -> None:
    shake_hands(screen)
    while data := screen.recv(65536):
        screen.sendall(data)


@pytest.fixture
def screen() -> Iterator[FakeVncServer]:
    screen = FakeVncServer(echo)
    yield screen
    screen.close()
