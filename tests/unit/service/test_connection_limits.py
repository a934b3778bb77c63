# SPDX-License-Identifier: Apache-2.0
"""Admission and eviction of connections: idle ones of the largest source first, sessions never."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.service.connection_limits import Bounds, ConnectionLimits, Slot, source_of_address

BOUNDS = Bounds(pending=10, pending_of_source=4, of_owner=2)


class Listener:
    """A listener that records evicted connections by name."""

    def __init__(self, bounds: Bounds = BOUNDS, shared: tuple[str, ...] = ()) -> None:
        self.limits = ConnectionLimits(bounds, lambda source: source in shared)
        self.evicted: list[str] = []

    def admit(self, source: str, name: str) -> Slot:
        return self.limits.admit(source, lambda: self.evicted.append(name))


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1:ffff::9", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("cloud0 port 3", "cloud0 port 3"),
    ],
)
def test_an_address_counts_for_its_source(address: str, source: str) -> None:
    assert source_of_address(address) == source


def test_a_silent_source_loses_only_its_own_oldest_connection() -> None:
    listener = Listener()
    listener.admit("b", "browser")
    for number in range(100):
        listener.admit("a", f"a{number}")
    assert listener.evicted == [f"a{number}" for number in range(96)]
    assert listener.limits.pending_of("a") == 4
    assert listener.limits.pending_of("b") == 1


def test_without_room_the_source_with_the_most_connections_loses_one() -> None:
    listener = Listener(Bounds(pending=5, pending_of_source=4, of_owner=2))
    for source, count in (("a", 2), ("b", 3)):
        for number in range(count):
            listener.admit(source, f"{source}{number}")
    listener.admit("c", "c0")
    assert listener.evicted == ["b0"]


def test_handshakes_are_evicted_before_idle_connections() -> None:
    listener = Listener()
    slots = [listener.admit("a", f"a{number}") for number in range(4)]
    for slot in slots[:3]:
        slot.complete_handshake()
    slots[0].touch()
    listener.admit("a", "new").complete_handshake()
    assert listener.evicted == ["a3"], "its handshake is not complete"
    listener.admit("a", "newer")
    assert listener.evicted == ["a3", "a1"], "a0 was active since"


def test_connections_with_an_owner_take_no_room_and_are_not_evicted_for_others() -> None:
    listener = Listener()
    for number in range(50):
        listener.admit("a", f"session {number}").own(f"s{number}")
    for number in range(50):
        listener.admit("a", f"silent {number}")
    assert listener.limits.owned == 50
    assert all(name.startswith("silent") for name in listener.evicted)


def test_an_owner_has_a_bounded_number_of_connections() -> None:
    listener = Listener()
    for number in range(5):
        listener.admit(f"source {number}", f"c{number}").own("agent")
    assert listener.evicted == ["c0", "c1", "c2"]


def test_a_proxy_is_limited_only_by_the_total() -> None:
    listener = Listener(shared=("proxy",))
    for number in range(10):
        listener.admit("proxy", f"p{number}")
    assert listener.evicted == []
    listener.admit("a", "a0")
    assert listener.evicted == ["p0"]


def test_an_evicted_connection_can_still_report_its_end() -> None:
    listener = Listener(Bounds(pending=1, pending_of_source=1, of_owner=1))
    first = listener.admit("a", "first")
    second = listener.admit("a", "second")
    for late in (first.complete_handshake, first.touch, lambda: first.own("x"), first.release):
        late()
    assert listener.limits.pending == 1
    second.release()
    second.release()
    assert listener.limits.pending == 0


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["admit", "complete_handshake", "touch", "own", "release"]),
            st.integers(0, 5),
            st.integers(0, 30),
        ),
        max_size=200,
    )
)
def test_bounds_hold_for_any_order_of_events(steps: list[tuple[str, int, int]]) -> None:
    limits = ConnectionLimits(BOUNDS)
    slots: list[Slot] = []
    gone: set[int] = set()
    for operation, party, which in steps:
        if operation == "admit":
            number = len(slots)
            slots.append(limits.admit(f"source {party}", partial(gone.add, number)))
        elif slots:
            slot = slots[which % len(slots)]
            slot.own(f"owner {party}") if operation == "own" else getattr(slot, operation)()
            if operation == "release":
                gone.add(which % len(slots))
        assert limits.pending <= BOUNDS.pending
        assert all(limits.pending_of(f"source {n}") <= BOUNDS.pending_of_source for n in range(6))
        assert limits.pending + limits.owned == len(slots) - len(gone)
