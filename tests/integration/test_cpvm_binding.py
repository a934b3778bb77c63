# SPDX-License-Identifier: Apache-2.0
"""A console's cookie from another address, where the zone binds it to one and where it does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from integration.cpvm_lab.front import Front
from integration.cpvm_lab.screen import FakeScreen, shake_hands
from integration.cpvm_lab.wire import Connection
from systemvm.cpvm.refusal import Refusal

pytestmark = pytest.mark.timeout(60)

HOME, ELSEWHERE, PROXY = "127.0.0.1", "127.0.0.2", "127.0.0.3"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    front = Front(tmp_path_factory.mktemp("front"))
    yield front
    front.close()


@pytest.fixture
def screen() -> Iterator[FakeScreen]:
    screen = FakeScreen(lambda connection: (shake_hands(connection), connection.recv(1))[0])
    yield screen
    screen.close()


def open_at(front: Front, screen: FakeScreen, **headers: str) -> tuple[str, str]:
    """A session and its cookie, of a browser at HOME or behind the proxy."""
    connection = Connection(front, source=PROXY if headers else HOME)
    spent = connection.spend(front.issue(screen.port)[0], **headers)
    assert spent.status == 200, spent.body
    return spent.json()["session"], spent.cookie


def come_back(front: Front, session: str, cookie: str, source: str, **headers: str) -> int:
    """0 when the screen is shown, else the code of the refusal."""
    connection = Connection(front, source=source)
    assert connection.upgrade(f"session={session}", Cookie=cookie, **headers).status == 101
    opcode, payload = connection.frame()
    return int.from_bytes(payload[:2], "big") if opcode == 8 else 0


def test_a_stolen_cookie_is_refused_elsewhere_where_the_zone_says_so(
    front: Front, screen: FakeScreen
) -> None:
    front.set_up(bind_address=True)
    session, cookie = open_at(front, screen)
    assert come_back(front, session, cookie, ELSEWHERE) == Refusal.OTHER_ADDRESS.close_code
    assert come_back(front, session, cookie, HOME) == 0, "its own browser goes on"


def test_an_address_that_anybody_can_claim_does_not_count(front: Front, screen: FakeScreen) -> None:
    front.set_up(bind_address=True)
    session, cookie = open_at(front, screen)
    refused = come_back(front, session, cookie, ELSEWHERE, X_Forwarded_For=HOME)
    assert refused == Refusal.OTHER_ADDRESS.close_code


def test_behind_a_configured_proxy_the_browsers_own_address_counts(front: Front, screen: FakeScreen) -> None:
    front.set_up(bind_address=True, trusted_proxies=[PROXY])
    session, cookie = open_at(front, screen, X_Forwarded_For="198.51.100.7")
    stolen = come_back(front, session, cookie, PROXY, X_Forwarded_For="198.51.100.8")
    assert stolen == Refusal.OTHER_ADDRESS.close_code
    assert come_back(front, session, cookie, PROXY, X_Forwarded_For="198.51.100.7") == 0


def test_without_the_setting_a_browser_may_change_networks(front: Front, screen: FakeScreen) -> None:
    front.set_up(bind_address=False)
    session, cookie = open_at(front, screen)
    assert come_back(front, session, cookie, ELSEWHERE) == 0
