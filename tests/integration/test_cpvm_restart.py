# SPDX-License-Identifier: Apache-2.0
"""The agent of a CPVM is killed or restarted while consoles are open; systemd keeps its listening socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from playwright.sync_api import Page, expect
from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred

from integration.cpvm_lab.chromium import Chromium, wait_for_picture
from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.small_daemon import Cpvm, Daemon, PublicCertificate
from integration.cpvm_lab.vnc_server import QemuVncServer, free_vnc_port
from integration.cpvm_lab.wire import Connection
from systemvm.cpvm.refusal import BrowserRefusal
from systemvm.rpc.core.peer import Peer
from systemvm.service.slowness import scaled_s
from systemvm.wire import console
from systemvm.wire.acknowledgement import Acknowledgement

pytestmark = pytest.mark.timeout(180)

SESSION = "session-1"


class Cloud:
    """One CPVM with its daemon and a real screen; `serve` is what the daemon does at each connection."""

    def __init__(self, top: Path) -> None:
        self.daemon = Daemon()
        self.daemon.lifetime_s = 3600.0
        pytest_twisted.blockon(Deferred.fromCoroutine(self.daemon.start()))
        self.screen = QemuVncServer(None, free_vnc_port())
        self.daemon.screen_port = self.screen.port
        self.cpvm = Cpvm(top, self.daemon)
        self.certificate = PublicCertificate(self.cpvm)

    async def serve(self) -> Peer:
        peer = await self.daemon.hellos.get().addTimeout(scaled_s(60), reactor)
        await peer.call(console.CONSOLE_SETUP, self.certificate.setup, result=Acknowledgement)
        return peer

    def serve_again(self) -> Deferred[Peer]:
        return Deferred.fromCoroutine(self.serve())

    def connect(self) -> Connection:
        return Connection(cast(ConsoleProcess, self.cpvm))

    def close(self) -> None:
        pytest_twisted.blockon(threads.deferToThread(self.cpvm.close))
        pytest_twisted.blockon(self.daemon.listening.stopListening())
        self.screen.close()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path)
    yield cloud
    cloud.close()


@pytest.fixture
def chromium() -> Iterator[Chromium]:
    chromium = Chromium()
    yield chromium
    chromium.close()


def restart(cloud: Cloud, *, kill: bool) -> tuple[Peer, float]:
    """Restart the agent; return its peer, and when it listened. Meanwhile the socket refuses nobody."""
    cloud.cpvm.kill() if kill else cloud.cpvm.terminate()
    socket.create_connection(("127.0.0.1", cloud.cpvm.port)).close()
    cloud.cpvm.start()
    peer: Peer = cast(Any, threads.blockingCallFromThread)(reactor, cloud.serve_again)
    return peer, time.monotonic()


@pytest_twisted.ensureDeferred
async def test_a_browser_is_back_by_itself_after_a_kill_and_after_a_restart(
    cloud: Cloud, chromium: Chromium, record_property: Callable[[str, object], None]
) -> None:
    await cloud.serve()

    def steps(page: Page) -> None:
        body = page.locator("body")
        page.goto(f"{cloud.cpvm.origin}/console?cmd=auth&token=t0ken")
        expect(body).to_have_attribute("data-state", "connected")
        wait_for_picture(page)
        for kill in (True, False):
            opened = cloud.daemon.opened_screens
            _, listening = restart(cloud, kill=kill)
            while cloud.daemon.opened_screens == opened:  # it is another connection
                page.wait_for_timeout(50)
            expect(body).to_have_attribute("data-state", "connected")
            record_property("back_s", round(time.monotonic() - listening, 2))
            wait_for_picture(page)

    await threads.deferToThread(chromium.run, steps)
    assert cloud.daemon.used_tokens == ["t0ken"], "no new token"


@pytest_twisted.ensureDeferred
async def test_secrets_ends_and_drain_hold_after_a_kill(cloud: Cloud) -> None:
    peer = await cloud.serve()

    def spend() -> tuple[str, str]:
        connection = cloud.connect()
        first = connection.spend("t0ken").cookie
        upgraded = connection.upgrade(f"session={SESSION}", Cookie=first)
        connection.greet()
        return first, upgraded.cookie

    first, second = await threads.deferToThread(spend)
    await peer.call(console.CONSOLE_DRAIN, console.ConsoleDrain(3600.0), result=Acknowledgement)
    peer, _ = await threads.deferToThread(restart, cloud, kill=True)
    listed = await peer.call(console.CONSOLE_LIST, result=console.ConsoleSessions)
    assert listed.session_ids == [SESSION]

    def come_back() -> str:
        thief = cloud.connect()
        thief.upgrade(f"session={SESSION}", Cookie=first)
        assert thief.closing()[0] == BrowserRefusal.CONTINUED_ELSEWHERE.close_code
        assert cloud.connect().spend("another").status == BrowserRefusal.DRAINING.http_status
        connection = cloud.connect()
        upgraded = connection.upgrade(f"session={SESSION}", Cookie=second)
        connection.greet()
        return upgraded.cookie

    third = await threads.deferToThread(come_back)
    assert cloud.daemon.used_tokens == ["t0ken"]
    ending = console.ConsoleEnd([SESSION], "closed", console.ConsoleRefusal.CLOSED.value)
    await peer.call(console.CONSOLE_END, ending, result=Acknowledgement)
    peer, _ = await threads.deferToThread(restart, cloud, kill=True)
    assert (await peer.call(console.CONSOLE_LIST, result=console.ConsoleSessions)).session_ids == []

    def stay_out() -> Any:
        connection = cloud.connect()
        connection.upgrade(f"session={SESSION}", Cookie=third)
        return connection.closing()[0]

    assert await threads.deferToThread(stay_out) == BrowserRefusal.CLOSED.close_code
