# SPDX-License-Identifier: Apache-2.0
"""The database and its threads: one writes, the others read."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar, cast

import sqlalchemy as sa
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from systemvm.management.state import schema
from systemvm.management.state.changes import Changes
from systemvm.management.state.kept_results import KeptResults, keep
from systemvm.management.state.list_turns import MAX_RUNNING, ListReaders, account_of_list
from systemvm.management.state.migrate import upgrade
from systemvm.management.state.topics import note_statements, reads_of_task
from systemvm.management.state.wal_commits import WalCommits
from systemvm.service.errors import FailureCode, SystemVmError

P = ParamSpec("P")
T = TypeVar("T")

#: The first parameter of every repository function. Other packages pass it on and do not import SQLAlchemy.
Connection: TypeAlias = sa.Connection

#: How long a writer waits for the lock of another process, such as the sqlite3 shell or a backup.
BUSY_TIMEOUT_MS = 5_000
#: With WAL, a loss of power loses no committed transaction but the last ones, and damages nothing.
SYNCHRONOUS = "NORMAL"
#: How long `drain` waits for transactions that run, and for those that follow them.
DRAIN_S = 10.0


class DatabaseClosedError(SystemVmError):
    """The database was used after it was closed, because the daemon has stopped."""

    code = FailureCode.STOPPED


class Database:
    """Runs SQL in threads of its own, so that a slow disk does not block the reactor.

    SQLite permits one writer at a time: `run` uses one thread and begins with the write lock, so that no
    transaction fails half-way because of another. With WAL, `read` continues meanwhile.
    """

    _log = Logger()

    def __init__(self, engine: sa.Engine, path: Path, readers: int = 3) -> None:
        self.engine = engine
        self._closed = False
        self._commits = WalCommits(path)
        self.changes = Changes(self._commits.count)
        self._kept = KeptResults(self.changes)
        note_statements(engine, frozenset(schema.metadata.tables))
        self._writer = ThreadPoolExecutor(1, "database-write")
        self._readers = ThreadPoolExecutor(readers, "database-read")
        self._list_readers = ThreadPoolExecutor(MAX_RUNNING, "database-list")
        self.lists = ListReaders(lambda work: self._in(self._list_readers, work), _call_later)
        self._under_way: set[asyncio.Future[Any]] = set()

    @classmethod
    def open(cls, path: Path) -> Database:
        """Open or create the file and upgrade its schema. Call it before the reactor runs."""
        path.parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.pool.NullPool)
        _prepare_sqlite(engine)
        upgrade(engine)
        path.chmod(0o600)
        cls._log.info("database {path} has the current schema", path=str(path))
        pooled = sa.create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})
        _prepare_sqlite(pooled)
        return cls(pooled, path)

    def run_now(
        self, function: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do as `run` on the calling thread, for start-up and tests; never call it in the reactor."""
        changed: set[str] = set()
        options = {"writes": True, "changed_topics": changed}
        with self.engine.connect() as connection:
            with connection.execution_options(**options).begin() as transaction:
                result = function(connection, *args, **kwargs)
                with self.changes.committing(changed, lambda: _data_version(connection)):
                    transaction.commit()
        return result

    def _read_now(
        self, function: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return self._read(None, lambda connection: function(connection, *args, **kwargs))

    def _read(self, read_topics: set[str] | None, work: Callable[[sa.Connection], T]) -> T:
        options = {
            "kept_for_readers": self._kept,
            "commit_before": self.changes.commit,
            "read_topics": read_topics,
        }
        with self.engine.connect() as connection, connection.execution_options(**options).begin():
            return work(connection)

    async def run(
        self, function: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `function(connection, …)` in a transaction on the writer's thread; an error rolls it back."""
        return await self._in(self._writer, lambda: self.run_now(function, *args, **kwargs))

    async def read(
        self, function: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `function(connection, …)` on a reader's thread; a list's when it is its account's turn."""
        noted, account = reads_of_task.get(), account_of_list.get()

        def work() -> T:
            return self._read(noted, lambda connection: function(connection, *args, **kwargs))

        if account is None:
            return await self._in(self._readers, work)
        return await self.lists.run(account, work)

    async def read_kept(
        self,
        function: Callable[Concatenate[sa.Connection, P], T],
        topics: tuple[str, ...],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Do as `read`, unless what it returned for these arguments is kept: no topic has changed since.

        The arguments must be hashable.
        """
        key = (function, args, tuple(kwargs.items()))
        kept = self._kept.find(key, topics)
        if kept is not None:
            result: T = kept.result
            noted = reads_of_task.get()
            if noted is not None:
                noted.update(topics)
            return result

        def compute(connection: sa.Connection) -> T:
            return keep(connection, key, topics, lambda reader: function(reader, *args, **kwargs))

        return await self.read(compute)

    async def drain(self) -> None:
        """Wait until no transaction runs and none follows.

        A request is often several transactions. Closing the database between two of them would interrupt it.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + DRAIN_S
        while self._under_way and loop.time() < deadline_s:
            waiting = asyncio.wait(set(self._under_way), timeout=deadline_s - loop.time())
            await Deferred.fromFuture(asyncio.ensure_future(waiting))

    def close(self) -> None:
        """Finish the transactions that run, then close the file."""
        self._closed = True
        self._writer.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        self._list_readers.shutdown(wait=True)
        self.engine.dispose()
        self._commits.close()

    async def _in(self, executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        """Run `work` on a thread, from a coroutine that Twisted or asyncio drives."""
        if self._closed:
            raise DatabaseClosedError("database is closed: the daemon has stopped")
        future = asyncio.get_running_loop().run_in_executor(executor, work)
        self._under_way.add(future)
        try:
            return await Deferred.fromFuture(future)
        finally:
            self._under_way.discard(future)


def _call_later(delay_s: float, function: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(delay_s, function)


def _prepare_sqlite(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, _record: Any) -> None:
        # SQLAlchemy emits BEGIN itself (below): the driver's comes too late for a reader's snapshot.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={SYNCHRONOUS}")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        connection.create_function("unicode_lower", 1, _lowered, deterministic=True)

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _data_version(connection: sa.Connection) -> int:
    """Return the number that each commit of another connection changes, and none of its own.

    https://www.sqlite.org/pragma.html#pragma_data_version
    """
    opened: sqlite3.Connection = cast("Any", connection.connection.dbapi_connection)
    [[version]] = opened.execute("PRAGMA data_version")
    return int(version)


def _lowered(text: Any) -> str | None:
    return None if text is None else str(text).lower()
