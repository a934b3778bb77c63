# SPDX-License-Identifier: Apache-2.0
"""A pool is measured once for all who ask, and one that hangs delays nobody twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from attrs import frozen
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from systemvm.management.primary import pool_usage
from systemvm.management.primary.pool_usage import DiskUsage, PoolUsage, Usages
from systemvm.service.slowness import scaled_s


@frozen
class Pool:
    id: int = 1
    uuid: str = "u"


class Directories:
    """Directories that become usable when the test says so."""

    def __init__(self) -> None:
        self.prepared: list[Deferred[Path]] = []

    async def prepare(self, pool: Any) -> Path:
        self.prepared.append(Deferred())
        return await self.prepared[-1]


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_usage, "deferToThread", maybeDeferred)


def measure(usage: PoolUsage) -> list[Usages]:
    """Return a list that has the answer when there is one."""
    found: list[Usages] = []
    Deferred.fromCoroutine(usage.of([cast(Any, Pool())])).addCallback(found.append)
    return found


def test_who_asks_meanwhile_gets_the_same_answer(tmp_path: Path) -> None:
    clock, directories = Clock(), Directories()
    usage = PoolUsage(clock, cast(Any, directories))
    first, second = measure(usage), measure(usage)
    [prepared] = directories.prepared
    assert not first and not second
    prepared.callback(tmp_path)
    assert first == second and isinstance(first[0][1], DiskUsage)
    assert clock.getDelayedCalls() == []


def test_a_pool_that_hangs_is_waited_for_once(tmp_path: Path) -> None:
    clock, directories = Clock(), Directories()
    usage = PoolUsage(clock, cast(Any, directories))
    first, second = measure(usage), measure(usage)
    clock.advance(scaled_s(pool_usage.TIMEOUT_S))
    assert first == second == [{1: None}]
    assert measure(usage) == [{1: None}]
    [prepared] = directories.prepared
    prepared.callback(tmp_path)
    again = measure(usage)
    directories.prepared[-1].callback(tmp_path)
    assert isinstance(again[0][1], DiskUsage)


def test_a_pool_that_cannot_be_prepared_is_down() -> None:
    directories = Directories()
    found = measure(PoolUsage(Clock(), cast(Any, directories)))
    directories.prepared[0].errback(OSError("no server"))
    assert found == [{1: None}]
