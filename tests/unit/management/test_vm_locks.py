# SPDX-License-Identifier: Apache-2.0
"""One operation at a time for each VM; a rejected or failed one releases the lock."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from systemvm.management.vm_locks import PerVmLock


class FakeDatabase:
    """A database that returns each key as its row."""

    async def read(self, _query: Any, key: str) -> Any:
        return key


def check(vm: Any) -> None:
    if vm == "router":
        raise ValueError(vm)


def lock() -> PerVmLock[str]:
    return PerVmLock(FakeDatabase(), None, check)  # type: ignore[arg-type]


async def work(lock: PerVmLock[str], key: str, until: Deferred[None], seen: list[str]) -> None:
    async with lock.acquire(key) as vm:
        seen.append(f"{vm} begins")
        await until
        seen.append(f"{vm} ends")


@pytest_twisted.ensureDeferred
async def test_one_operation_at_a_time_for_each_machine() -> None:
    one = lock()
    seen: list[str] = []
    gates: list[Deferred[None]] = [Deferred() for _ in range(3)]
    keys = ("a", "a", "b")
    works = [
        Deferred.fromCoroutine(work(one, key, gate, seen)) for key, gate in zip(keys, gates, strict=True)
    ]
    assert seen == ["a begins", "b begins"]
    gates[0].callback(None)
    assert seen == ["a begins", "b begins", "a ends", "a begins"]
    for gate in gates[1:]:
        gate.callback(None)
    for done in works:
        await done


@pytest_twisted.ensureDeferred
async def test_rejected_row_or_failure_releases_the_lock() -> None:
    one = lock()
    for _ in range(2):
        with pytest.raises(ValueError, match="router"):
            async with one.acquire("router"):
                pytest.fail("the row was not rejected")
    for _ in range(2):
        with pytest.raises(KeyError):
            async with one.acquire("a"):
                raise KeyError
