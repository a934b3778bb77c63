# SPDX-License-Identifier: Apache-2.0
"""Runs jobs. A job is a row before it runs, so its caller gets a result even when the daemon is killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.management.jobs.event_feed import EventFeed
from systemvm.management.state import jobs as rows
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.jobs import Job
from systemvm.management.state.status import JobStatus
from systemvm.service import host_errors
from systemvm.service.periodic import Periodic

INTERNAL_ERROR = 530
RETRY_INTERVAL_S = 5.0

#: Whether a transaction is the first one of a job; see `RunningJob.begin`.
Begins = Callable[[Connection], bool]


def at_once(connection: Connection) -> bool:
    """Begin without a job."""
    return True


class RunningJob:
    """A job as its handler sees it: the row, and a callback that reports progress."""

    def __init__(self, job: Job, report: Callable[[int, str], None]) -> None:
        self.job = job
        self.progress = report  # progress(percent, text)

    def begin(self, connection: Connection, text: str) -> bool:
        """Record a job's first change in the transaction that makes it; return False when it was made before.

        A job that resumes must not make that change once more: somebody can have undone it since.
        """
        if rows.by_id(connection, self.job.id).progress_text is not None:
            return False
        rows.set_progress(connection, self.job.uuid, 1, text)
        return True


Handler = Callable[[RunningJob], Awaitable[dict[str, Any]]]
#: Turns an exception into a result code and a jobresult.
Describe = Callable[[Exception, Job], tuple[int, dict[str, Any]]]


Interrupted = Callable[[Job], Awaitable[None]]


@frozen
class _Kind:
    handler: Handler
    resumes: bool
    on_interrupted: Interrupted | None


@frozen
class _Outcome:
    """The end of a job, as the columns of its row."""

    status: JobStatus
    code: int
    result: dict[str, Any]


@frozen
class JobProgress:
    """One line of a job's event stream."""

    jobid: str
    jobstatus: int
    progress: int
    text: str
    result: dict[str, Any] | None = field(default=None)

    @classmethod
    def of(cls, job: Job) -> JobProgress:
        return cls(job.uuid, int(job.status), job.progress, job.progress_text or "", job.result)


def _describe(error: Exception, job: Job) -> tuple[int, dict[str, Any]]:
    return INTERNAL_ERROR, {"errorcode": INTERNAL_ERROR, "errortext": str(error) or type(error).__name__}


class JobRunner:
    """The daemon's jobs: commands submit them, and the handler of the command's name runs them.

    A handler returns the jobresult, `{"systemvm": {…}}`, or raises; `describe` turns the exception into
    CloudStack's error. A handler that `resumes` runs again from its start when the daemon restarts, so it
    must be idempotent.
    """

    _log = Logger()

    def __init__(self, database: Database, clock: IReactorTime, describe: Describe = _describe) -> None:
        self._database = database
        self._unwritten: dict[str, _Outcome] = {}
        self._retry = Periodic(
            clock, self._write_outcomes, RETRY_INTERVAL_S, what="writing the results of jobs"
        )
        self.describe = describe
        self._kinds: dict[str, _Kind] = {}
        self._running: dict[str, Deferred[None]] = {}
        self._stopping = False
        self._feed: EventFeed[JobProgress] = EventFeed()
        #: How many have ended since the start, by command and outcome.
        self.ended: Counter[tuple[str, str]] = Counter()

    def register(
        self,
        command: str,
        handler: Handler,
        *,
        resumes: bool = False,
        on_interrupted: Interrupted | None = None,
    ) -> None:
        """Set the handler of a command's jobs. Call it for every command before `resume_pending`.

        `on_interrupted` is called for a job that a killed daemon has left and that does not resume.
        """
        if command in self._kinds:
            raise ValueError(f"jobs of {command} already have a handler")
        self._kinds[command] = _Kind(handler, resumes, on_interrupted)

    async def submit(self, command: str, arguments: dict[str, Any], **columns: Any) -> Job:
        """Write a job's row and start it; `columns` are further columns such as account_id and user_id."""
        return await self.submit_in(
            lambda connection: rows.create(connection, command=command, arguments=arguments, **columns)
        )

    async def submit_in(self, create: Callable[[Connection], Job]) -> Job:
        """Start the job whose row `create` writes, in one transaction with the rows that it is about."""

        def checked(connection: Connection) -> Job:
            job = create(connection)
            if job.command not in self._kinds:
                raise ValueError(f"jobs of {job.command} have no handler")
            return job

        job = await self._database.run(checked)
        self._start(job)
        return job

    async def resume_pending(self) -> None:
        """Run again what the last daemon left and can be resumed; end the other jobs with an error."""
        for job in await self._database.read(rows.pending):
            kind = self._kinds.get(job.command)
            if kind is not None and kind.resumes:
                self._log.info("resuming job {job} ({command})", job=job.uuid, command=job.command)
                self._start(job)
                continue
            if kind is not None and kind.on_interrupted is not None:
                await kind.on_interrupted(job)
            text = f"job was interrupted: the management daemon was restarted while {job.command} ran"
            await self._finish(
                job, JobStatus.FAILED, INTERNAL_ERROR, {"errorcode": INTERNAL_ERROR, "errortext": text}
            )

    async def wait(self, uuid: str) -> Job:
        """Wait for a job's end and return the job."""
        async for progress in self.follow(uuid):
            if progress.jobstatus != JobStatus.PENDING:
                break
        return await self._database.read(rows.by_uuid, uuid)

    async def follow(self, uuid: str) -> AsyncIterator[JobProgress]:
        """Yield a job's progress, from now to its end.

        Raises: NotFoundError when there is no such job.
        """
        with self._feed.subscribe(uuid) as subscription:
            job = await self._database.read(rows.by_uuid, uuid)
            latest = JobProgress.of(job)
            yield latest
            while latest.jobstatus == JobStatus.PENDING:
                latest = await subscription.next()
                yield latest

    def stop(self) -> None:
        """Cancel what runs. The rows stay pending until the next start resumes or ends them."""
        self._stopping = True
        self._retry.stop()
        running, self._running = self._running, {}
        for deferred in running.values():
            deferred.cancel()

    def _start(self, job: Job) -> None:
        deferred = Deferred.fromCoroutine(self._run(job))
        self._running[job.uuid] = deferred
        deferred.addErrback(self._stopped, job)
        deferred.addBoth(self._forget, job)

    def _forget(self, _: Any, job: Job) -> None:
        self._running.pop(job.uuid, None)

    def _stopped(self, failure: Any, job: Job) -> None:
        if not self._stopping:
            self._log.failure("job {job} ({command})", failure=failure, job=job.uuid, command=job.command)

    async def _run(self, job: Job) -> None:
        def report(percent: int, text: str) -> None:
            self._feed.publish(job.uuid, JobProgress(job.uuid, JobStatus.PENDING, percent, text))
            writing = Deferred.fromCoroutine(self._database.run(rows.set_progress, job.uuid, percent, text))
            writing.addErrback(
                lambda failure: self._log.failure("cannot write the progress of a job", failure=failure)
            )

        try:
            result = await self._kinds[job.command].handler(RunningJob(job, report))
        except Exception as error:
            if self._stopping:
                raise
            code, described = self.describe(error, job)
            self._log.info(
                "job {job} ({command}) failed with {code}: {error}",
                job=job.uuid,
                command=job.command,
                code=code,
                error=str(error),
                request_id=job.request_id,
            )
            await self._finish(job, JobStatus.FAILED, code, described)
        else:
            await self._finish(job, JobStatus.SUCCEEDED, 0, result)

    async def _finish(self, job: Job, status: JobStatus, code: int, result: dict[str, Any]) -> None:
        outcome = _Outcome(status, code, result)
        try:
            await self._write(job.uuid, outcome)
        except Exception as error:
            fault = host_errors.explain(error)
            if fault is None:
                raise
            # the caller polls this row, which must not stay pending for ever because a disk was full for a
            # while
            self._log.error(
                "cannot write the result of job {job} yet: {why}; {hint}",
                job=job.uuid,
                why=fault.message,
                hint=fault.hint,
            )
            self._unwritten[job.uuid] = outcome
            if len(self._unwritten) == 1:
                self._retry.start(now=False)

    async def _write_outcomes(self) -> None:
        for uuid, outcome in list(self._unwritten.items()):
            await self._write(uuid, outcome)
            del self._unwritten[uuid]
        if not self._unwritten:
            self._retry.stop()

    async def _write(self, uuid: str, outcome: _Outcome) -> None:
        ended = await self._database.run(rows.finish, uuid, outcome.status, outcome.code, outcome.result)
        self.ended[ended.command, ended.status.name.lower()] += 1
        self._feed.publish(uuid, JobProgress.of(ended))
