# SPDX-License-Identifier: Apache-2.0
"""A console's cookie from another address, where the zone binds it to one and where it does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.vnc_server import FakeVncServer, greet_and_wait
from integration.cpvm_lab.wire import Connection
from systemvm.cpvm.refusal import BrowserRefusal

pytestmark = pytest.mark.timeout(60)

HOME, ELSEWHERE, PROXY = "127.0.0.1", "127.0.0.2", "127.0.0.3"


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleProcess]:
    console = ConsoleProcess(tmp_path_factory.mktemp("console"))
    yield console
    console.close()


@pytest.fixture
def screen() -> Iterator[FakeVncServer]:
    screen = FakeVncServer(greet_and_wait)
    yield screen
    screen.close()


def open_at(console: ConsoleProcess, screen: FakeVncServer, **headers: str) -> tuple[str, str]:
    """A session and its cookie, of a browser at HOME or behind the proxy."""
    connection = Connection(console, source=PROXY if headers else HOME)
    spent = connection.spend(console.issue(screen.port)[0], **headers)
    assert spent.status == 200, spent.body
    return spent.json()["session"], spent.cookie


def come_back(console: ConsoleProcess, session: str, cookie: str, source: str, **headers: str) -> int:
    """0 when the screen is shown, else the code of the refusal."""
    connection = Connection(console, source=source)
    assert connection.upgrade(f"session={session}", Cookie=cookie, **headers).status == 101
    opcode, payload = connection.frame()
    return int.from_bytes(payload[:2], "big") if opcode == 8 else 0


def test_a_stolen_cookie_is_refused_from_another_address_when_the_zone_binds_it(
    console: ConsoleProcess, screen: FakeVncServer
) -> None:
    console.set_up(bind_address=True)
    session, cookie = open_at(console, screen)
    assert come_back(console, session, cookie, ELSEWHERE) == BrowserRefusal.OTHER_ADDRESS.close_code
    assert come_back(console, session, cookie, HOME) == 0, "its own browser goes on"


def test_a_forwarded_address_of_an_untrusted_peer_is_ignored(
    console: ConsoleProcess, screen: FakeVncServer
) -> None:
    console.set_up(bind_address=True)
    session, cookie = open_at(console, screen)
    refused = come_back(console, session, cookie, ELSEWHERE, X_Forwarded_For=HOME)
    assert refused == BrowserRefusal.OTHER_ADDRESS.close_code


def test_behind_a_trusted_proxy_the_forwarded_address_is_bound(
    console: ConsoleProcess, screen: FakeVncServer
) -> None:
    console.set_up(bind_address=True, trusted_proxies=[PROXY])
    session, cookie = open_at(console, screen, X_Forwarded_For="198.51.100.7")
    stolen = come_back(console, session, cookie, PROXY, X_Forwarded_For="198.51.100.8")
    assert stolen == BrowserRefusal.OTHER_ADDRESS.close_code
    assert come_back(console, session, cookie, PROXY, X_Forwarded_For="198.51.100.7") == 0


def test_without_the_setting_a_browser_can_change_networks(
    console: ConsoleProcess, screen: FakeVncServer
) -> None:
    console.set_up(bind_address=False)
    session, cookie = open_at(console, screen)
    assert come_back(console, session, cookie, ELSEWHERE) == 0
