# SPDX-License-Identifier: Apache-2.0
"""The files of recordings, which an SSVM of the zone writes and reads."""

from __future__ import annotations

from typing import Any

from systemvm.management.control.agent_calls import AgentPeer, ConnectedAgents
from systemvm.management.state import instances, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.recordings import RecordingRow
from systemvm.rpc.core.errors import RpcError
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.protocol import RECORDINGS_SINCE
from systemvm.wire.recording import (
    RECORDING_APPEND,
    RECORDING_DELETE,
    RECORDING_READ,
    RecordingContent,
    RecordingPlace,
    RecordingRange,
    RecordingRefusal,
    StoredPiece,
    StoredSize,
)
from systemvm.wire.role import Role
from systemvm.wire.storage import Store
from systemvm.wire.transfer_failure import TransferFailure

CALL_DEADLINE_S = 60.0


class RecordingUnavailableError(SystemVmError):
    """A recording that cannot be read or written now."""

    code = FailureCode.UNAVAILABLE


class RecordingLostError(SystemVmError):
    """A recording whose file is not on its store."""

    code = FailureCode.NOT_FOUND


class RecordingFiles:
    """Calls to any SSVM that is Up in the zone of a recording."""

    def __init__(self, database: Database, agents: ConnectedAgents) -> None:
        self._database = database
        self._agents = agents

    async def append(self, row: RecordingRow, offset: int, data: bytes) -> int:
        """Write a piece; return how many bytes the file has.

        Raises: RpcError with the reason of RecordingRefusal.
        """
        try:
            store, peer = await self._peer(row)
            piece = StoredPiece(store, row.account_id, row.uuid, offset, data)
            stored = await peer.call(RECORDING_APPEND, piece, result=StoredSize, deadline_s=CALL_DEADLINE_S)
        except RecordingUnavailableError as away:
            raise RpcError.refused(RecordingRefusal.STORE_AWAY, away.message, away.hint) from None
        except RpcError as error:
            if error.reason in (RecordingRefusal.GAP.value, RecordingRefusal.UNKNOWN.value):
                raise
            raise RpcError.refused(RecordingRefusal.STORE_AWAY, error.message, error.hint) from None
        size_bytes: int = stored.size_bytes
        return size_bytes

    async def read(self, row: RecordingRow, offset: int, count: int) -> RecordingContent:
        """Return a part of a recording.

        Raises: RecordingUnavailableError, RecordingLostError.
        """
        store, peer = await self._peer(row)
        wanted = RecordingRange(store, row.account_id, row.uuid, offset, count)
        content: RecordingContent = await _call(peer, RECORDING_READ, wanted, RecordingContent)
        return content

    async def delete(self, row: RecordingRow) -> None:
        """Delete the file, if it is there.

        Raises: RecordingUnavailableError.
        """
        store, peer = await self._peer(row)
        await _call(peer, RECORDING_DELETE, RecordingPlace(store, row.account_id, row.uuid), Acknowledgement)

    async def _peer(self, row: RecordingRow) -> tuple[Store, AgentPeer]:
        store, names = await self._database.read(_place, row)
        up = self._agents.up(Role.SSVM, RECORDINGS_SINCE)
        for name in names:
            peer = self._agents.peer(name) if name in up else None
            if peer is not None:
                return store, peer
        raise RecordingUnavailableError(
            "no secondary storage VM of the zone can reach the recording",
            'see "systemvm system-vm list" for the reason',
        )


def _place(connection: Connection, row: RecordingRow) -> tuple[Store, list[str]]:
    names = instances.names_of_ssvms_by_zone(connection)
    return zones.store_by_id(connection, row.store_id).wire, names.get(row.zone_id, [])


async def _call(peer: AgentPeer, method: str, params: Any, result: Any) -> Any:
    try:
        return await peer.call(method, params, result=result, deadline_s=CALL_DEADLINE_S)
    except RpcError as error:
        if error.reason == TransferFailure.LOST.value:
            raise RecordingLostError("recording is not on its store") from None
        raise RecordingUnavailableError(
            f"recording cannot be reached: {error.message}", error.hint or "try again later"
        ) from None
