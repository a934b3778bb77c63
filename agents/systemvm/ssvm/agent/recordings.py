# SPDX-License-Identifier: Apache-2.0
"""The daemon's calls about recordings of consoles, which the store's helper carries out."""

from __future__ import annotations

from typing import Any

from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, MethodTable, Offer
from systemvm.ssvm import recording_messages as messages
from systemvm.ssvm.agent.store_client import StoreClient
from systemvm.ssvm.store_messages import mount_id
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.recording import (
    RECORDING_APPEND,
    RECORDING_DELETE,
    RECORDING_READ,
    RecordingContent,
    RecordingPlace,
    RecordingRange,
    StoredPiece,
    StoredSize,
)
from systemvm.wire.role import Role
from systemvm.wire.storage import Store
from systemvm.wire.transfer_failure import TransferFailure

CALL_DEADLINE_S = 60.0


class RecordingMethods:
    """Recordings on stores, mounted ones and buckets."""

    def __init__(self, stores: StoreClient) -> None:
        self._stores = stores

    def add_methods(self, methods: MethodTable) -> None:
        offers = [
            Offer(name, handler, params, result, summary, deadline_s=CALL_DEADLINE_S)
            for name, handler, params, result, summary in (
                (
                    RECORDING_APPEND,
                    self._append,
                    StoredPiece,
                    StoredSize,
                    "Write a piece of a recording to its store",
                ),
                (RECORDING_READ, self._read, RecordingRange, RecordingContent, "Read a part of a recording"),
                (RECORDING_DELETE, self._delete, RecordingPlace, Acknowledgement, "Delete a recording"),
            )
        ]
        methods.add_all(frozenset({Role.MANAGEMENT.value}), offers)

    async def _append(self, call: Call, piece: StoredPiece) -> StoredSize:
        order = messages.RecordingWrite(
            mount_id(piece.store), piece.account_id, piece.recording_id, piece.offset, piece.data
        )
        stored: StoredSize = await self._run(piece.store, messages.RECORDING_WRITE, order, StoredSize)
        return stored

    async def _read(self, call: Call, wanted: RecordingRange) -> RecordingContent:
        order = messages.RecordingContentRequest(
            mount_id(wanted.store), wanted.account_id, wanted.recording_id, wanted.offset, wanted.count
        )
        content: RecordingContent = await self._run(
            wanted.store, messages.RECORDING_CONTENT, order, RecordingContent
        )
        return content

    async def _delete(self, call: Call, place: RecordingPlace) -> Acknowledgement:
        key = messages.RecordingKey(mount_id(place.store), place.account_id, place.recording_id)
        await self._run(place.store, messages.RECORDING_REMOVE, key, Acknowledgement)
        return Acknowledgement()

    async def _run(self, store: Store, method: str, params: Any, result: Any) -> Any:
        await self._stores.ensure_mounted(store)
        try:
            return await self._stores.call(method, params, result)
        except RpcError as error:
            if error.reason == TransferFailure.STORE_NOT_MOUNTED.value:
                self._stores.mark_unmounted(store)
            raise
