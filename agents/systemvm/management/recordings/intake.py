# SPDX-License-Identifier: Apache-2.0
"""The methods by which CPVMs deliver what they have recorded; a CPVM delivers its own recordings only."""

from __future__ import annotations

from twisted.logger import Logger

from systemvm.management.recordings.files import RecordingFiles
from systemvm.management.state import console_sessions, instances, recordings
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.recordings import RecordingRow
from systemvm.rpc.core.call import Call, ObjectAccess
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import MethodTable
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.recording import (
    CONSOLE_RECORD,
    CONSOLE_RECORDED,
    RecordedEnd,
    RecordedPiece,
    RecordingEnd,
    RecordingRefusal,
)
from systemvm.wire.role import Role

#: What is recorded after each reason, for the audit.
ENDINGS = {
    RecordingEnd.COMPLETE: "is complete",
    RecordingEnd.TOO_LONG: "ended at its largest size",
    RecordingEnd.SPOOL_FULL: "ended early: it was not stored as fast as the screen changed",
    RecordingEnd.UNREADABLE: "ended early: the VNC server sent what cannot be followed",
    RecordingEnd.SPOOL_FAILED: "ended early: the console proxy could not keep it",
    RecordingEnd.REFUSED: "ended early: its store took no more of it",
    RecordingEnd.INTERRUPTED: "was interrupted: the console proxy's agent was restarted",
    RecordingEnd.PROXY_LOST: "was interrupted: its console proxy is gone, and its last seconds with it",
}


class RecordingIntake:
    """Stores the pieces of recordings, and notes their ends."""

    log = Logger()

    def __init__(self, database: Database, files: RecordingFiles) -> None:
        self._database = database
        self._files = files

    def add_methods(self, table: MethodTable) -> None:
        own = ObjectAccess("recordings that it was ordered to make", self._is_own, RecordingRefusal.UNKNOWN)
        cpvms = frozenset({Role.CPVM.value})
        table.add(
            CONSOLE_RECORD, self._piece, params=RecordedPiece, result=Acknowledgement, roles=cpvms,
            summary="Store the next piece of a recording", objects=own, deadline_s=60.0,
        )  # fmt: skip
        table.add(
            CONSOLE_RECORDED, self._ended, params=RecordedEnd, result=Acknowledgement, roles=cpvms,
            summary="Report the end of a recording; repeating it has no effect", objects=own,
        )  # fmt: skip

    async def _is_own(self, call: Call, params: RecordedPiece | RecordedEnd) -> bool:
        return await self._database.read(_own, call.caller.name, params.recording_id) is not None

    async def _piece(self, call: Call, piece: RecordedPiece) -> Acknowledgement:
        row = await self._database.read(_own, call.caller.name, piece.recording_id)
        if row is None:
            raise RpcError.refused(RecordingRefusal.UNKNOWN, "recording was deleted")
        size_bytes = await self._files.append(row, piece.offset, piece.data)
        await self._database.run(recordings.grow, row.uuid, size_bytes)
        return Acknowledgement()

    async def _ended(self, call: Call, ended: RecordedEnd) -> Acknowledgement:
        await self._database.run(note_end, ended.recording_id, _parsed(ended.code), ended.gaps)
        return Acknowledgement()


def note_end(connection: Connection, uuid: str, end: RecordingEnd, gaps: int = 0) -> None:
    """End a recording, with an event of its session."""
    row = recordings.end(connection, uuid, end)
    if row is not None:
        session = console_sessions.rows.by_id(connection, row.session_id)
        text = f"recording {row.uuid} {ENDINGS[end]}: {row.size_bytes} bytes"
        if gaps:
            text += f", with {gaps} gaps in which it was not stored as fast as the screen changed"
        level = "INFO" if end is RecordingEnd.COMPLETE and not gaps else "WARN"
        console_sessions.record(connection, session, "RECORDED", text, level=level)


def _own(connection: Connection, proxy_name: str, recording_id: str) -> RecordingRow | None:
    proxy = instances.by_instance_name(connection, proxy_name)
    return recordings.of_proxy(connection, recording_id, proxy.id)


def _parsed(code: str) -> RecordingEnd:
    try:
        return RecordingEnd(code)
    except ValueError:
        return RecordingEnd.INTERRUPTED  # of a newer CPVM
