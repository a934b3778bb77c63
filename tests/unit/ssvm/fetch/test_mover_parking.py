# SPDX-License-Identifier: Apache-2.0
"""Movers that wait for the next body of their upload."""

from __future__ import annotations

from twisted.internet.task import Clock

from systemvm.ssvm.fetch.mover_parking import MoverParking


def test_a_mover_is_kept_while_its_client_pauses_for_a_while() -> None:
    clock, ended = Clock(), []
    parking = MoverParking(clock)
    parking.enter("one", 300.0, lambda: ended.append("one"))
    clock.advance(299.0)
    assert ended == []
    clock.advance(1.0)
    assert ended == ["one"]
    assert clock.getDelayedCalls() == []


def test_the_one_that_waits_longest_makes_room() -> None:
    clock, ended = Clock(), []
    parking = MoverParking(clock, max_parked=2)
    for name in ("one", "two", "one", "three"):
        parking.enter(name, 300.0, lambda name=name: ended.append(name))  # type: ignore[misc]
    assert ended == ["two"]


def test_a_mover_that_works_again_is_not_ended() -> None:
    clock, ended = Clock(), []
    parking = MoverParking(clock)
    parking.enter("one", 300.0, lambda: ended.append("one"))
    parking.leave("one")
    parking.leave("one")
    clock.advance(1000.0)
    assert ended == []
