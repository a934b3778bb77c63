# SPDX-License-Identifier: Apache-2.0
"""The end of a download or upload: its image is published, and the daemon receives how it ended.

The end of each is a call to the daemon that is repeated until it is answered.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from systemvm.guest.context import AgentContext
from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.agent.download import Download, downloaded, failed
from systemvm.ssvm.agent.open_sources import OpenedSources
from systemvm.ssvm.agent.publisher import Publisher
from systemvm.ssvm.agent.quota import AccountQuota
from systemvm.ssvm.agent.store_client import StoreClient
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.mover_messages import MoverResult
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import DownloadRequest, DownloadStatus, DownloadStep
from systemvm.wire.transfer_failure import TransferFailure
from systemvm.wire.upload import UploadRequest


class DownloadEnds:
    """Ends downloads, and calls `on_end` with each one's last status."""

    _log = Logger(namespace="systemvm.ssvm.agent.download_ends")

    def __init__(
        self,
        context: AgentContext,
        stores: StoreClient,
        opened: OpenedSources,
        quota: AccountQuota,
        publisher: Publisher,
        on_end: Callable[[DownloadStatus], None],
    ) -> None:
        self._context = context
        self._stores = stores
        self._opened = opened
        self._quota = quota
        self._publisher = publisher
        self._on_end = on_end

    async def publish(self, download: Download, moved: MoverResult) -> None:
        """Publish an image whose bytes are all on the store, and end its download."""
        step = DownloadStep("received and verified; publishing", time.time())
        download.status = evolve(download.status, steps=[*download.status.steps, step])

        def wait_for_store() -> None:
            download.status = evolve(download.status, waits_for_store=True)
            self.notify(download.status)

        try:
            await self._reserve(download.request, moved.size_bytes)
            if download.copy is not None:
                # the properties of a copy keep the checksum of the URL's file
                download.status = evolve(download.status, image_checksum=moved.checksum)
                moved = evolve(moved, checksum=download.copy.checksum or "")
            published = await self._publisher.publish(
                download.request, moved, lambda: not download.is_abandoned, wait_for_store
            )
        except RpcError as error:
            self.fail(download, TransferError.from_rpc(error))
        else:
            self.end(download, downloaded(download.status, published))

    async def _reserve(self, request: DownloadRequest | UploadRequest, size_bytes: int) -> None:
        try:
            await self._quota.reserve_stored(request, size_bytes)
        except RpcError:
            await self._publisher.discard(request)
            raise

    def fail(self, download: Download, error: TransferError) -> None:
        """End a download by an error."""
        self.end(download, failed(download.status, error))

    def end(self, download: Download, status: DownloadStatus) -> None:
        """End a download by its last status, and report that to the daemon."""
        download.status = status
        self._opened.close_for(status.job_id)
        if status.error is not None and status.error.code == TransferFailure.STORE_NOT_MOUNTED.value:
            self._stores.mark_unmounted(download.request.store)
        Deferred.fromCoroutine(self._report(status))
        self._on_end(status)

    async def _report(self, status: DownloadStatus) -> None:
        try:
            await self._context.call_daemon(storage.TEMPLATE_FINISHED, status, result=Acknowledgement)
        except RpcError as error:
            self._log.warn(
                "{job_id}: the daemon rejects its outcome: {error}", job_id=status.job_id, error=str(error)
            )

    def notify(self, status: DownloadStatus) -> None:
        """Send the status of a download that has not ended."""
        key = f"{storage.TEMPLATE_PROGRESS} {status.job_id}"
        self._context.notify_daemon(storage.TEMPLATE_PROGRESS, status, replaces=key)
