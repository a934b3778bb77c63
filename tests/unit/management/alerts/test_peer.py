# SPDX-License-Identifier: Apache-2.0
"""A delivery of alerts ends in a bounded time, also when no address answers."""

from __future__ import annotations

import socket

import pytest

from systemvm.management.alerts import peer
from systemvm.management.alerts.errors import DeliveryError


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
