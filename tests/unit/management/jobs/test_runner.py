# SPDX-License-Identifier: Apache-2.0
"""Jobs: results, errors with CloudStack's codes, progress, and restarts of the daemon."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from prepared_database import open_migrated
from systemvm.management.jobs.event_feed import EventFeed
from systemvm.management.jobs.runner import RETRY_INTERVAL_S, JobRunner, RunningJob
from systemvm.management.state import accounts
from systemvm.management.state import jobs as rows
from systemvm.management.state.database import Database
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import AccountType, JobStatus


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_migrated(tmp_path / "systemvm.sqlite")

    def fill(connection: sa.Connection) -> None:
        domain = accounts.create_domain(connection, "ROOT", "/")
        accounts.create_account(connection, "system", AccountType.ADMIN, domain.id)

    opened.run_now(fill)
    yield opened
    opened.close()


@pytest_twisted.ensureDeferred
async def test_result_is_stored(database: Database) -> None:
    async def handler(running: RunningJob) -> dict[str, Any]:
        return {"systemvm": {"id": running.job.arguments["id"]}}

    jobs = JobRunner(database, Clock())
    jobs.register("startSystemVm", handler)
    job = await jobs.submit("startSystemVm", {"id": "x"}, account_id=1, request_id="r-1")
    ended = await jobs.wait(job.uuid)
    assert (ended.status, ended.result_code, ended.request_id) == (JobStatus.SUCCEEDED, 0, "r-1")
    assert ended.result == {"systemvm": {"id": "x"}}
    assert ended.completed is not None


@pytest_twisted.ensureDeferred
async def test_error_is_stored_as_a_result(database: Database) -> None:
    async def handler(running: RunningJob) -> dict[str, Any]:
        raise RuntimeError("the disk is full")

    jobs = JobRunner(
        database,
        Clock(),
        lambda error, job: (534, {"errorcode": 534, "errortext": f"{job.command}: {error}"}),
    )
    jobs.register("startSystemVm", handler)
    ended = await jobs.wait((await jobs.submit("startSystemVm", {}, account_id=1)).uuid)
    assert (ended.status, ended.result_code) == (JobStatus.FAILED, 534)
    assert ended.result == {"errorcode": 534, "errortext": "startSystemVm: the disk is full"}


@pytest_twisted.ensureDeferred
async def test_progress_is_followed_to_the_end(database: Database) -> None:
    go: Deferred[None] = Deferred()

    async def handler(running: RunningJob) -> dict[str, Any]:
        await go
        running.progress(40, "copying")
        return {}

    jobs = JobRunner(database, Clock())
    jobs.register("deployVirtualMachine", handler)
    job = await jobs.submit("deployVirtualMachine", {}, account_id=1)
    seen = []
    async for progress in jobs.follow(job.uuid):
        seen.append((progress.jobstatus, progress.progress))
        if not go.called:
            go.callback(None)
    assert seen[0] == (0, 0)
    assert seen[-1] == (1, 100)
    with pytest.raises(NotFoundError):
        await jobs.wait("no such job")


@pytest_twisted.ensureDeferred
async def test_restart_resumes_some_jobs_and_fails_the_others(database: Database) -> None:
    runs: list[str] = []

    def started(never_ends: bool) -> JobRunner:
        async def handler(running: RunningJob) -> dict[str, Any]:
            runs.append(running.job.command)
            if never_ends:
                await Deferred()
            return {"done": True}

        jobs = JobRunner(database, Clock())
        jobs.register("resumes", handler, resumes=True)
        jobs.register("does not", handler)
        return jobs

    before = started(never_ends=True)
    resumed = await before.submit("resumes", {}, account_id=1)
    lost = await before.submit("does not", {}, account_id=1)
    before.stop()
    assert {job.uuid for job in await database.read(rows.pending)} == {resumed.uuid, lost.uuid}

    after = started(never_ends=False)
    await after.resume_pending()
    assert (await after.wait(resumed.uuid)).result == {"done": True}
    ended = await after.wait(lost.uuid)
    assert ended.status is JobStatus.FAILED
    assert ended.result is not None
    assert "restarted while does not ran" in ended.result["errortext"]
    assert runs == ["resumes", "does not", "resumes"]


class SignallingClock(Clock):
    """A clock whose `scheduled` fires when the first call is scheduled."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduled: Deferred[None] = Deferred()

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> IDelayedCall:
        call = super().callLater(delay, callable, *args, **kw)
        if not self.scheduled.called:
            self.scheduled.callback(None)
        return call


@pytest_twisted.ensureDeferred
async def test_result_is_written_when_a_full_disk_has_space_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = rows.finish

    def finish_on_full_disk(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def handler(running: RunningJob) -> dict[str, Any]:
        return {"done": True}

    clock = SignallingClock()
    jobs = JobRunner(database, clock)
    jobs.register("startSystemVm", handler)
    monkeypatch.setattr(rows, "finish", finish_on_full_disk)
    job = await jobs.submit("startSystemVm", {}, account_id=1)
    await clock.scheduled
    assert [each.uuid for each in await database.read(rows.pending)] == [job.uuid]
    monkeypatch.setattr(rows, "finish", finish)
    clock.advance(RETRY_INTERVAL_S)
    ended = await jobs.wait(job.uuid)
    assert (ended.status, ended.result) == (JobStatus.SUCCEEDED, {"done": True})


@pytest_twisted.ensureDeferred
async def test_command_without_handler_cannot_be_submitted(database: Database) -> None:
    with pytest.raises(ValueError, match="have no handler"):
        await JobRunner(database, Clock()).submit("unknown", {}, account_id=1)
    assert await database.read(rows.pending) == []


@pytest_twisted.ensureDeferred
async def test_slow_subscriber_gets_the_newest_event() -> None:
    feed: EventFeed[int] = EventFeed()
    with feed.subscribe("a") as subscriber, feed.subscribe("b") as other:
        for value in (1, 2, 3):
            feed.publish("a", value)
        assert await subscriber.next() == 3
        waiting = Deferred.fromCoroutine(other.next())
        feed.publish("a", 4)
        assert not waiting.called
        feed.publish("b", 5)
        assert await waiting == 5
    feed.publish("a", 6)


@pytest_twisted.ensureDeferred
async def test_values_that_a_slow_subscriber_missed_can_be_united() -> None:
    feed: EventFeed[frozenset[int]] = EventFeed(frozenset.union)
    with feed.subscribe("a") as subscriber:
        for value in (1, 2, 3):
            feed.publish("a", frozenset((value,)))
        assert await subscriber.next() == {1, 2, 3}
        feed.publish("a", frozenset((4,)))
        assert await subscriber.next() == {4}
