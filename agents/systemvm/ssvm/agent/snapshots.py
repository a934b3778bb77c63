# SPDX-License-Identifier: Apache-2.0
"""The daemon's calls about files of volume snapshots, which the store's helper carries out."""

from __future__ import annotations

from typing import Any

from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, MethodTable, Offer
from systemvm.ssvm import snapshot_messages as messages
from systemvm.ssvm.agent.store_client import StoreClient
from systemvm.ssvm.store_messages import mount_id
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.role import Role
from systemvm.wire.snapshot import (
    SNAPSHOT_ADOPT,
    SNAPSHOT_DELETE,
    SNAPSHOT_PUBLISH,
    SNAPSHOT_WRITE,
    SnapshotAdoption,
    SnapshotEnd,
    SnapshotPiece,
    SnapshotPlace,
)
from systemvm.wire.storage import Store
from systemvm.wire.transfer_failure import TransferFailure


class SnapshotMethods:
    """Snapshots on stores that are mounted; a bucket has none."""

    def __init__(self, stores: StoreClient) -> None:
        self._stores = stores

    def add_methods(self, methods: MethodTable) -> None:
        offers = [
            Offer(name, handler, params, Acknowledgement, summary, deadline_s=deadline_s)
            for name, handler, params, summary, deadline_s in (
                (
                    SNAPSHOT_WRITE,
                    self._write,
                    SnapshotPiece,
                    "Write a piece of a volume snapshot to its store",
                    60.0,
                ),
                (
                    SNAPSHOT_PUBLISH,
                    self._publish,
                    SnapshotEnd,
                    "Make a complete volume snapshot durable and visible",
                    120.0,
                ),
                (
                    SNAPSHOT_ADOPT,
                    self._adopt,
                    SnapshotAdoption,
                    "Make the image of a template the file of a volume snapshot, too",
                    60.0,
                ),
                (SNAPSHOT_DELETE, self._delete, SnapshotPlace, "Delete a volume snapshot", 60.0),
            )
        ]
        methods.add_all(frozenset({Role.MANAGEMENT.value}), offers)

    async def _write(self, call: Call, piece: SnapshotPiece) -> Acknowledgement:
        place = piece.place
        order = messages.SnapshotWrite(
            mount_id(place.store), place.account_id, place.volume_id, place.snapshot_id,
            piece.offset, piece.data,
        )  # fmt: skip
        return await self._run(place.store, messages.SNAPSHOT_WRITE, order)

    async def _publish(self, call: Call, end: SnapshotEnd) -> Acknowledgement:
        place = end.place
        order = messages.SnapshotPublish(
            mount_id(place.store), place.account_id, place.volume_id, place.snapshot_id, end.size_bytes
        )
        return await self._run(place.store, messages.SNAPSHOT_PUBLISH, order)

    async def _adopt(self, call: Call, adoption: SnapshotAdoption) -> Acknowledgement:
        place = adoption.place
        order = messages.SnapshotAdopt(
            mount_id(place.store), place.account_id, place.volume_id, place.snapshot_id,
            adoption.image_account_id, adoption.image_id,
        )  # fmt: skip
        return await self._run(place.store, messages.SNAPSHOT_ADOPT, order)

    async def _delete(self, call: Call, place: SnapshotPlace) -> Acknowledgement:
        key = messages.SnapshotKey(
            mount_id(place.store), place.account_id, place.volume_id, place.snapshot_id
        )
        return await self._run(place.store, messages.SNAPSHOT_REMOVE, key)

    async def _run(self, store: Store, method: str, params: Any) -> Acknowledgement:
        if store.s3 is not None:
            raise RpcError.refused(TransferFailure.REQUEST_INVALID, "a bucket holds no volume snapshots")
        await self._stores.ensure_mounted(store)
        try:
            await self._stores.call(method, params, Acknowledgement)
        except RpcError as error:
            if error.reason == TransferFailure.STORE_NOT_MOUNTED.value:
                self._stores.mark_unmounted(store)
            raise
        return Acknowledgement()
