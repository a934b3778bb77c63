# SPDX-License-Identifier: Apache-2.0
"""Transactions in threads: atomic, and without blocking readers."""

from __future__ import annotations

import threading

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet.defer import Deferred, gatherResults

from systemvm.management.state import zones
from systemvm.management.state.columns import UtcDateTime
from systemvm.management.state.database import Database, DatabaseClosedError


@pytest_twisted.ensureDeferred
async def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    def half(connection: sa.Connection) -> None:
        zones.put_zone(connection, "zone2", arch="amd64")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        await database.run(half)
    assert [zone.name for zone in await database.read(zones.list_zones)] == ["zone1"]


@pytest_twisted.ensureDeferred
async def test_a_reader_does_not_wait_for_the_writer(database: Database) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(connection: sa.Connection) -> None:
        zones.put_zone(connection, "zone2", arch="amd64")
        entered.set()
        assert leave.wait(10)

    writing = Deferred.fromCoroutine(database.run(slow))
    try:
        names = [zone.name for zone in await database.read(zones.list_zones)]
    finally:
        leave.set()
        await writing
    assert names == ["zone1"]
    assert len(await database.read(zones.list_zones)) == 2


@pytest_twisted.ensureDeferred
async def test_writers_run_one_after_another(database: Database) -> None:
    def add(connection: sa.Connection, number: int) -> None:
        zones.put_zone(connection, f"more{number}", arch="amd64")

    await gatherResults([Deferred.fromCoroutine(database.run(add, number)) for number in range(50)])
    assert len(await database.read(zones.list_zones)) == 51


def test_time_without_a_zone_is_rejected() -> None:
    from datetime import datetime

    naive = datetime(2026, 1, 1)  # noqa: DTZ001  the fault under test
    with pytest.raises(ValueError, match="has no time zone"):
        UtcDateTime().process_bind_param(naive, sa.create_engine("sqlite://").dialect)


@pytest_twisted.ensureDeferred
async def test_draining_waits_for_all_the_transactions_of_a_request(database: Database) -> None:
    async def request() -> None:
        for number in range(3):
            await database.run(zones.put_zone, f"more{number}", arch="amd64")
            await database.read(zones.list_zones)

    begun = Deferred.fromCoroutine(request())
    await database.drain()
    assert begun.called
    database.close()
    assert len(database.run_now(zones.list_zones)) == 4


@pytest_twisted.ensureDeferred
async def test_closed_database_raises_its_own_error(database: Database) -> None:
    await database.drain()
    database.close()
    for late in (database.run, database.read):
        with pytest.raises(DatabaseClosedError, match="has stopped"):
            await late(zones.list_zones)
