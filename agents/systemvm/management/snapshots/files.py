# SPDX-License-Identifier: Apache-2.0
"""The files of snapshots on secondary storage: SSVMs write and delete them, and this host reads them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredLock, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from systemvm.management.control.agent_calls import AgentPeer, ConnectedAgents
from systemvm.management.snapshots.errors import SnapshotError, SnapshotUnreachableError
from systemvm.management.snapshots.filled_ranges import filled_ranges
from systemvm.management.state import instances, snapshots, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.snapshots import Snapshot
from systemvm.rpc.core.errors import NOT_CONNECTED, RpcError
from systemvm.service.slowness import scaled_s
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.protocol import SNAPSHOTS_SINCE
from systemvm.wire.role import Role
from systemvm.wire.snapshot import (
    MAX_PIECE_BYTES,
    SNAPSHOT_ADOPT,
    SNAPSHOT_DELETE,
    SNAPSHOT_PUBLISH,
    SNAPSHOT_WRITE,
    SnapshotAdoption,
    SnapshotEnd,
    SnapshotPiece,
    SnapshotPlace,
)

CALL_DEADLINE_S = 120.0
#: How many pieces are on their way at a time.
PIECES_IN_FLIGHT = 4
#: How long an upload waits for an SSVM, which also connects again after a restart of the daemon.
SSVM_WAIT_S = 300.0
SSVM_POLL_S = 2.0
#: How long this host waits for a store's mount, which can hang.
MOUNT_DEADLINE_S = 30.0

Report = Callable[[int], None]


@frozen
class _Target:
    """Where a snapshot is, and the SSVMs of its zone."""

    place: SnapshotPlace
    ssvms: list[str]


@frozen
class _StoredFile:
    """The file of a snapshot, and the mount point of its store."""

    snapshot_name: str
    root: Path
    path: Path


class SnapshotFiles:
    """Calls to any SSVM that is Up in the zone of a snapshot.

    Raises: SnapshotError when no SSVM can do it.
    """

    def __init__(
        self,
        clock: IReactorTime,
        database: Database,
        agents: ConnectedAgents,
        in_thread: Callable[..., Deferred[Any]] = deferToThread,
    ) -> None:
        self._clock = clock
        self._database = database
        self._agents = agents
        self._in_thread = in_thread
        self._checks: dict[int, DeferredLock] = {}  # by the store's id

    async def upload(self, snapshot: Snapshot, path: Path, report: Report) -> int:
        """Copy a file to the store, where it is visible when all of it is there; `report` gets percents.

        Return how many bytes were sent: zeros are not, except the last of the file, which gives its length.
        """
        await self.delete(snapshot)  # what an earlier attempt has left
        size_bytes = (await self._in_thread(path.stat)).st_size
        offsets = iter(range(0, size_bytes, MAX_PIECE_BYTES))
        sent_bytes = 0
        file = await self._in_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)

        target: _Target | None = None

        async def send(offset: int, data: bytes) -> None:
            nonlocal sent_bytes, target
            piece = partial(SnapshotPiece, offset=offset, data=data)
            target = await self._call(snapshot, SNAPSHOT_WRITE, piece, target)
            sent_bytes += len(data)

        async def send_pieces() -> None:
            for offset in offsets:
                data, filled = await self._in_thread(_read_piece, file, offset)
                for begin, end in filled:
                    await send(offset + begin, data[begin:end])
                if offset + len(data) == size_bytes and (not filled or filled[-1][1] < len(data)):
                    await send(size_bytes - 1, data[-1:])
                report(100 * offset // size_bytes)

        sending = [Deferred.fromCoroutine(send_pieces()) for _ in range(PIECES_IN_FLIGHT)]
        try:
            await gatherResults(sending, consumeErrors=True)
        except Exception as error:
            for each in sending:
                each.cancel()
            failure = getattr(error, "subFailure", None)
            raise (failure.value if failure is not None else error) from None
        finally:
            os.close(file)
        await self._call(snapshot, SNAPSHOT_PUBLISH, lambda place: SnapshotEnd(place, size_bytes))
        return sent_bytes

    async def adopt(self, snapshot: Snapshot, image_account_id: int, image_id: int) -> None:
        """Give the image of a template on the store of a snapshot its place, too."""
        await self._call(
            snapshot, SNAPSHOT_ADOPT, lambda place: SnapshotAdoption(place, image_account_id, image_id)
        )

    async def delete(self, snapshot: Snapshot) -> None:
        """Delete the file of a snapshot, if it is there."""
        await self._call(snapshot, SNAPSHOT_DELETE, lambda place: place)

    async def chain(self, snapshot: Snapshot) -> list[Path]:
        """Return the files of a snapshot as this host reads them, the whole one first.

        Raises: SnapshotError when one is missing, or the store does not answer.
        """
        files = await self._database.read(_stored_files, snapshot)
        await self._check(snapshot, files)
        return [file.path for file in files]

    async def _check(self, snapshot: Snapshot, files: list[_StoredFile]) -> None:
        """Check files on the mount of a store, in one thread for each store.

        A thread that hangs there keeps its turn: those that come meanwhile need no thread to fail, too.
        """
        answer: Deferred[None] = Deferred()
        turn = self._checks.setdefault(snapshot.store_id, DeferredLock())

        async def check() -> None:
            async with turn:
                if timeout.active():  # else nobody waits any more
                    await self._in_thread(_check_files, files)

        def ended(result: Failure | None) -> None:
            if not timeout.active():
                return
            timeout.cancel()
            if isinstance(result, Failure):
                answer.errback(result)
            else:
                answer.callback(None)

        error = SnapshotError(
            f"snapshot {snapshot.name} cannot be read: its image store does not answer on this host",
            "check the NFS server of the image store",
        )
        timeout = self._clock.callLater(scaled_s(MOUNT_DEADLINE_S), answer.errback, error)
        checked: Deferred[Any] = Deferred.fromCoroutine(check())
        checked.addBoth(ended)
        try:
            await answer
        finally:
            if timeout.active():  # the daemon ends
                timeout.cancel()

    async def _call(
        self,
        snapshot: Snapshot,
        method: str,
        params: Callable[[SnapshotPlace], Any],
        known: _Target | None = None,
    ) -> _Target:
        """Have one of the zone's SSVMs do it; one that is lost meanwhile is replaced by another.

        Return where that was, for the next call.
        """
        deadline = self._clock.seconds() + scaled_s(SSVM_WAIT_S)
        while True:
            target = await self._database.read(_target, snapshot) if known is None else known
            peer = self._peer(target.ssvms)
            if peer is not None:
                try:
                    await peer.call(
                        method, params(target.place), result=Acknowledgement, deadline_s=CALL_DEADLINE_S
                    )
                    return target
                except RpcError as error:
                    if error.code != NOT_CONNECTED:
                        raise SnapshotError(
                            f"secondary storage did not take snapshot {snapshot.name}: {error.message}",
                            error.hint or "take another one later",
                        ) from None
            if self._clock.seconds() >= deadline:
                raise SnapshotUnreachableError(
                    f"no secondary storage VM of the zone can reach snapshot {snapshot.name}",
                    'see "systemvm system-vm list" for the reason',
                )
            known = None
            await deferLater(self._clock, SSVM_POLL_S, lambda: None)

    def _peer(self, names: list[str]) -> AgentPeer | None:
        up = self._agents.up(Role.SSVM, SNAPSHOTS_SINCE)
        for name in names:
            peer = self._agents.peer(name) if name in up else None
            if peer is not None:
                return peer
        return None


def _read_piece(file: int, offset: int) -> tuple[bytes, list[tuple[int, int]]]:
    """Return a piece of a file and what of it is to be sent. It blocks."""
    data = os.pread(file, MAX_PIECE_BYTES, offset)
    return data, list(filled_ranges(data))


def _target(connection: Connection, snapshot: Snapshot) -> _Target:
    snapshot = snapshots.by_id(connection, snapshot.id)
    store = zones.store_by_id(connection, snapshot.store_id).wire
    place = SnapshotPlace(store, snapshot.account_id, snapshot.volume_id, snapshot.uuid)
    return _Target(place, instances.names_of_ssvms_by_zone(connection).get(snapshot.zone_id, []))


def _stored_files(connection: Connection, snapshot: Snapshot) -> list[_StoredFile]:
    files = []
    for each in snapshots.chain_of(connection, snapshot):
        store = zones.store_by_id(connection, each.store_id)
        if store.host_path is None:
            raise SnapshotError(
                f"image store {store.name} cannot be read on this host",
                "set host_path of the store to the mount point of the export",
            )
        root = Path(store.host_path)
        path = root / "snapshots" / str(each.account_id) / str(each.volume_id) / each.uuid
        files.append(_StoredFile(each.name, root, path))
    return files


def _check_files(files: list[_StoredFile]) -> None:
    """Check that files are there, and in their stores. It blocks for as long as a mount hangs.

    Raises: SnapshotError.
    """
    for file in files:
        try:
            # other programs can write to a store
            is_inside = file.path.resolve().is_relative_to(file.root.resolve())
            exists = file.path.is_file()
        except OSError as error:
            raise SnapshotError(
                f"snapshot {file.snapshot_name} cannot be read: {error.strerror}: {file.path}",
                "check that the image store is mounted there",
            ) from error
        if not is_inside:
            raise SnapshotError(
                f"path of snapshot {file.snapshot_name} leaves its store", "take another snapshot"
            )
        if not exists:
            raise SnapshotError(
                f"snapshot {file.snapshot_name} cannot be read: {file.path} does not exist",
                "check that the image store is mounted there, and restore the file",
            )
