# SPDX-License-Identifier: Apache-2.0
"""The agent's process as a CPVM: set up over mutual TLS, with an inherited socket and a console."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import threads
from twisted.internet.defer import Deferred

from integration.agent_lab.fake_daemon import soon
from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.small_daemon import Cpvm, Daemon, PublicCertificate
from integration.cpvm_lab.vnc_server import FakeVncServer, shake_hands
from integration.cpvm_lab.wire import Connection, open_console
from systemvm.wire import agent, console
from systemvm.wire.acknowledgement import Acknowledgement

pytestmark = pytest.mark.timeout(60)

RSS_LIMIT_BYTES = 60 << 20


@pytest.fixture
def daemon_and_cpvm(tmp_path: Path) -> Iterator[tuple[Daemon, Cpvm]]:
    daemon = Daemon()
    pytest_twisted.blockon(Deferred.fromCoroutine(daemon.start()))
    cpvm = Cpvm(tmp_path, daemon)
    yield daemon, cpvm
    pytest_twisted.blockon(threads.deferToThread(cpvm.close))
    pytest_twisted.blockon(daemon.listening.stopListening())


@pytest_twisted.ensureDeferred
async def test_a_console_through_the_agent(daemon_and_cpvm: tuple[Daemon, Cpvm]) -> None:
    daemon, cpvm = daemon_and_cpvm
    peer = await soon(daemon.hellos.get(), "hello")
    setup = PublicCertificate(cpvm).setup
    for _ in range(2):  # idempotent
        assert await peer.call(console.CONSOLE_SETUP, setup, result=Acknowledgement) == Acknowledgement()

    def echo(peer: socket.socket) -> None:
        shake_hands(peer)
        while data := peer.recv(4096):
            peer.sendall(data)

    screen = FakeVncServer(echo)
    daemon.screen_port = screen.port

    def hold() -> Any:
        connection = open_console(cast(ConsoleProcess, cpvm), "f1rst")
        connection.greet()
        return connection

    # What the daemon reconciles: it lists the console's sessions, and ends those that it no longer has.
    held = await threads.deferToThread(hold)
    read_stored = await peer.call(console.CONSOLE_LIST, result=console.ConsoleSessions)
    assert read_stored.session_ids == ["session-1"]
    ending = console.ConsoleEnd(["session-1", "unknown"], "it has ended")
    assert await peer.call(console.CONSOLE_END, ending, result=Acknowledgement) == Acknowledgement()
    assert (await soon(daemon.closed.get(), "end of a session")).session_id == "session-1"
    assert (await peer.call(console.CONSOLE_LIST, result=console.ConsoleSessions)).session_ids == []
    held.close()

    def browse() -> None:
        connection = open_console(cast(ConsoleProcess, cpvm), "t0ken")
        connection.greet()
        connection.send_frame(2, b"hello")
        assert connection.data(5) == b"hello"
        connection.close()

    def connect_at_once() -> None:
        connection = Connection(cast(ConsoleProcess, cpvm))
        assert connection.upgrade("token=pr0gram").status == 101
        connection.greet()
        connection.close()

    daemon.answers_screens = True
    await threads.deferToThread(connect_at_once)
    assert daemon.opened_screens == 1, "the answer to its token had the screen"
    assert (await soon(daemon.closed.get(), "end of a session")).session_id == "session-1"
    await threads.deferToThread(browse)
    assert daemon.used_tokens == ["f1rst", "pr0gram", "t0ken"]
    assert daemon.opened_screens == 2, "a browser connects later than it spends its token"
    # After its lifetime, the session's end is reported.
    closed = await soon(daemon.closed.get(), "end of a session")
    assert closed.session_id == "session-1"
    health = await peer.call(agent.HEALTH, result=agent.Health)
    assert health.agent_rss_bytes <= RSS_LIMIT_BYTES
    assert "t0ken" not in cpvm.log_path.read_text()
    screen.close()
