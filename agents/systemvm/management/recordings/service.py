# SPDX-License-Identifier: Apache-2.0
"""What users do with recordings: list, read and delete them; and what happens to old ones."""

from __future__ import annotations

from datetime import timedelta

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.management.configurations import console as settings
from systemvm.management.pki.seal import Seal
from systemvm.management.recordings.files import RecordingFiles, RecordingUnavailableError
from systemvm.management.recordings.intake import note_end
from systemvm.management.state import accounts, console_sessions, events, instances, recordings, zones
from systemvm.management.state.accounts import User
from systemvm.management.state.columns import now
from systemvm.management.state.console_sessions import ConsoleSessionRow
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.recordings import RecordingFilter, RecordingRow
from systemvm.service.periodic import Periodic
from systemvm.wire.recording import MAX_PIECE_BYTES, RecordingContent, RecordingEnd

ROUND_S = 300.0
DELETED_AT_ONCE = 50
#: A CPVM that is away can come back and deliver; then the recording grows even if it counts as interrupted.
ABANDONED_AFTER = timedelta(minutes=10)


@frozen
class ListedRecording:
    """A recording with the rows that it names."""

    row: RecordingRow
    vm: Instance
    user: User
    session: ConsoleSessionRow


@frozen
class OpenedRecording:
    """A recording, and the key of its file; without a key the file is not encrypted."""

    listed: ListedRecording
    key: str | None = field(repr=False)


class Recordings:
    """The recordings of all zones."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, database: Database, files: RecordingFiles, seal: Seal) -> None:
        self._database = database
        self._files = files
        self._seal = seal
        self._tending = Periodic(clock, self.tend, ROUND_S, what="delete old recordings of consoles")

    def start(self) -> None:
        self._tending.start(now=False)

    def stop(self) -> None:
        self._tending.stop()

    @property
    def database(self) -> Database:
        return self._database

    async def page(self, which: RecordingFilter, window: slice) -> tuple[list[ListedRecording], int]:
        """Return the recordings in a window of those that fit, the newest first, and how many fit."""
        return await self._database.read(_page, which, window)

    async def find(self, uuid: str, account_ids: frozenset[int] | None) -> ListedRecording | None:
        """Return a recording of a VM of these accounts; None means any."""
        which = RecordingFilter(account_ids=account_ids, uuid=uuid)
        found, _ = await self._database.read(_page, which, slice(0, 1))
        return found[0] if found else None

    async def open(self, listed: ListedRecording, user_id: int, request_id: str) -> OpenedRecording:
        """Return what a player needs, and record that somebody watches it."""
        await self._database.run(_note, listed, user_id, request_id, "PLAY", "is played")
        sealed = listed.row.sealed_key
        return OpenedRecording(listed, None if sealed is None else self._seal.open(sealed))

    async def read(
        self, listed: ListedRecording, offset: int, count: int = MAX_PIECE_BYTES
    ) -> RecordingContent:
        """Return a part of the file.

        Raises: RecordingUnavailableError, RecordingLostError.
        """
        return await self._files.read(listed.row, offset, count)

    async def delete(self, listed: ListedRecording, user_id: int, request_id: str) -> None:
        """Delete a recording; when its store cannot be reached now, the file is deleted later."""
        await self._database.run(_note, listed, user_id, request_id, "DELETE", "is deleted")
        await self._database.run(recordings.request_deletion, listed.row.uuid)
        await self._remove(listed.row)

    async def tend(self) -> None:
        """End recordings whose CPVM is gone, and delete those that are old or whose deletion is due."""
        for row in await self._database.read(recordings.abandoned, now() - ABANDONED_AFTER):
            await self._database.run(note_end, row.uuid, RecordingEnd.PROXY_LOST)
        await self._database.run(_expire)
        for row in await self._database.read(recordings.deletable, DELETED_AT_ONCE):
            await self._remove(row)

    async def _remove(self, row: RecordingRow) -> None:
        try:
            await self._files.delete(row)
        except RecordingUnavailableError as error:
            self._log.info("recording {uuid} is deleted later: {why}", uuid=row.uuid, why=str(error))
            return
        await self._database.run(recordings.deleted, row.uuid)


def _page(connection: Connection, which: RecordingFilter, window: slice) -> tuple[list[ListedRecording], int]:
    found, count = recordings.page(connection, which, window)
    users = accounts.users_by_id(connection, (row.user_id for row in found))
    machines = instances.by_ids(connection, (row.vm_id for row in found))
    sessions = console_sessions.rows.by_ids(connection, (row.session_id for row in found))
    listed = [
        ListedRecording(row, machines[row.vm_id], users[row.user_id], sessions[row.session_id])
        for row in found
    ]
    return listed, count


def _note(
    connection: Connection, listed: ListedRecording, user_id: int, request_id: str, what: str, text: str
) -> None:
    row = listed.row
    events.record(
        connection,
        f"CONSOLE.RECORDING.{what}",
        f"recording {row.uuid} of {listed.vm.shown_name} {text}",
        account_id=row.account_id,
        domain_id=row.domain_id,
        user_id=user_id,
        resource_type=console_sessions.SESSION,
        resource_uuid=listed.session.uuid,
        request_id=request_id,
    )


def _expire(connection: Connection) -> None:
    for zone in zones.list_zones(connection):
        days = settings.of_zone(connection, zone.id).recording.retention_days
        if days:
            for row in recordings.expired(connection, zone.id, now() - timedelta(days=days)):
                session = console_sessions.rows.by_id(connection, row.session_id)
                text = f"recording {row.uuid} is deleted: it is older than {days} days"
                console_sessions.record(connection, session, "RECORDING.EXPIRE", text)
                recordings.request_deletion(connection, row.uuid)
