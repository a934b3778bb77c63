# SPDX-License-Identifier: Apache-2.0
"""A delivery of alerts ends in a bounded time, also when no address answers."""

from __future__ import annotations

import socket
from threading import Event
from typing import Any

import pytest

from systemvm.management.alerts import peer
from systemvm.management.alerts.errors import DeliveryError
from systemvm.management.name_lookup import NameLookup


def test_all_addresses_together_have_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, waits = 100.0, []

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        nonlocal now_s
        waits.append(timeout)
        now_s += timeout
        raise TimeoutError(110, "Connection timed out")

    found = [(2, 1, 6, "", (f"203.0.113.{number}", 443)) for number in range(1, 9)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: found)
    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(peer, "monotonic", lambda: now_s)
    monkeypatch.setattr(peer, "scaled_s", lambda timeout_s: 30 * timeout_s)
    with pytest.raises(DeliveryError, match="Connection timed out"):
        with peer.connection_to("hooks.example.test", 443, peer.is_another_machine):
            pass
    assert sum(waits) == peer.MOST_TOTAL_S


def test_a_name_server_that_is_silent_holds_no_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    may_answer, asked = Event(), []

    def look_up(*place: Any, **_: Any) -> list[Any]:
        asked.append(place)
        may_answer.wait()
        return [(2, 1, 6, "", ("203.0.113.1", 443))]

    names = NameLookup()
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(peer, "_names", names)
    monkeypatch.setattr(peer, "scaled_s", lambda timeout_s: 0.0)
    try:
        for _ in range(2):
            with pytest.raises(DeliveryError, match="no name server answers"):
                with peer.connection_to("hooks.example.test", 443, peer.is_another_machine):
                    pass
        assert asked == [("hooks.example.test", 443)], "the second delivery waits for the same lookup"
        waiting = names._running["hooks.example.test", 443]
    finally:
        may_answer.set()
    assert waiting.result() == ["203.0.113.1"]
    assert names.addresses("hooks.example.test", 443, 60.0) == ["203.0.113.1"]
    assert len(asked) == 2, "an answer is not kept"


def test_a_name_that_does_not_exist_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: Any, **options: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for _ in range(2):
        with pytest.raises(
            DeliveryError, match=r"name of hooks.example.test:443 cannot be resolved \(correct"
        ):
            with peer.connection_to("hooks.example.test", 443, peer.is_another_machine):
                pass
