# SPDX-License-Identifier: Apache-2.0
"""A console's cookie sent from another address, with and without the zone's setting that binds it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.vnc_server import FakeVncServer, greet_and_wait
from integration.cpvm_lab.wire import Connection
from systemvm.cpvm.refusal import BrowserRefusal

pytestmark = pytest.mark.timeout(60)

HOME, OTHER, PROXY = "127.0.0.1", "127.0.0.2", "127.0.0.3"


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
    """Open a session from HOME or behind the proxy, and return its id and cookie."""
    connection = Connection(console, source=PROXY if headers else HOME)
    spent = connection.spend(console.issue(screen.port)[0], **headers)
    assert spent.status == 200, spent.body
    return spent.json()["session"], spent.cookie


def reconnect(console: ConsoleProcess, session: str, cookie: str, source: str, **headers: str) -> int:
    """Return 0 when the screen is shown, else the close code of the refusal."""
    connection = Connection(console, source=source)
    assert connection.upgrade(f"session={session}", Cookie=cookie, **headers).status == 101
    opcode, payload = connection.frame()
    return int.from_bytes(payload[:2], "big") if opcode == 8 else 0


def test_a_stolen_cookie_is_refused_from_another_address_when_the_zone_binds_it(
    console: ConsoleProcess, screen: FakeVncServer
) -> None:
    console.set_up(bind_address=True)
    session, cookie = open_at(console, screen)
    assert reconnect(console, session, cookie, OTHER) == BrowserRefusal.OTHER_ADDRESS.close_code
    assert reconnect(console, session, cookie, HOME) == 0, "the cookie's own browser was refused"


def test_a_forwarded_address_of_an_untrusted_peer_is_ignored(
    console: ConsoleProcess, screen: FakeVncServer
) -> None:
    console.set_up(bind_address=True)
    session, cookie = open_at(console, screen)
    refused = reconnect(console, session, cookie, OTHER, X_Forwarded_For=HOME)
    assert refused == BrowserRefusal.OTHER_ADDRESS.close_code


def test_behind_a_trusted_proxy_the_forwarded_address_is_bound(
    console: ConsoleProcess, screen: FakeVncServer
) -> None:
    console.set_up(bind_address=True, trusted_proxies=[PROXY])
    session, cookie = open_at(console, screen, X_Forwarded_For="198.51.100.7")
    stolen = reconnect(console, session, cookie, PROXY, X_Forwarded_For="198.51.100.8")
    assert stolen == BrowserRefusal.OTHER_ADDRESS.close_code
    assert reconnect(console, session, cookie, PROXY, X_Forwarded_For="198.51.100.7") == 0


def test_without_the_setting_a_browser_can_change_networks(
    console: ConsoleProcess, screen: FakeVncServer
) -> None:
    console.set_up(bind_address=False)
    session, cookie = open_at(console, screen)
    assert reconnect(console, session, cookie, OTHER) == 0
