# SPDX-License-Identifier: Apache-2.0
"""Has the store's helper publish an image, and repeats that while the store is only late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm import store_messages
from systemvm.ssvm.agent.store_client import StoreClient
from systemvm.ssvm.mover_messages import MoverResult
from systemvm.ssvm.store_messages import FindRequest, FindResult, JobKey, PublishedTemplate, PublishRequest
from systemvm.ssvm.store_retry import retry_transient_errors
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import DownloadRequest
from systemvm.wire.upload import UploadRequest

PUBLISH_TIMEOUT_S = 120.0
#: Less than the daemon waits: it must receive that the store hangs, or the whole SSVM would count as slow.
FIND_TIMEOUT_S = 20.0


class Publisher:
    """Publishes the jobs of the SSVM `owner`."""

    _log = Logger(namespace="systemvm.ssvm.agent.publisher")

    def __init__(self, reactor: Any, stores: StoreClient, owner: str) -> None:
        self._reactor = reactor
        self._stores = stores
        self._owner = owner

    async def find(self, request: DownloadRequest | UploadRequest) -> PublishedTemplate | None:
        """Return what this very job has published before; RpcError when the store does not answer in time."""
        found: FindResult = await self._stores.call(
            store_messages.FIND, _find_request(request), FindResult, FIND_TIMEOUT_S
        )
        return found.published

    async def publish(
        self,
        request: DownloadRequest | UploadRequest,
        moved: MoverResult,
        is_wanted: Callable[[], bool],
        on_wait: Callable[[], None],
    ) -> PublishedTemplate:
        """Publish; the job's directory is removed when that fails.

        A store that is late or busy is called again for as long as `is_wanted`, `on_wait` before each time.
        Such a call checks first whether an earlier one has succeeded.

        Raises: RpcError of the store's helper.
        """
        job = self._key(request)
        order = PublishRequest(
            job=job,
            account_id=request.account_id,
            template_id=request.template_id,
            unique_name=request.unique_name,
            description=request.description,
            format=request.format,
            public=request.public,
            hvm=request.hvm,
            virtual_size_bytes=moved.virtual_size_bytes,
            checksum=moved.checksum,
        )
        was_late = False

        async def publish() -> PublishedTemplate:
            if was_late:
                found: FindResult = await self._stores.call(
                    store_messages.FIND, _find_request(request), FindResult
                )
                if found.published is not None:
                    return found.published
            published: PublishedTemplate = await self._stores.call(
                store_messages.PUBLISH, order, PublishedTemplate, PUBLISH_TIMEOUT_S
            )
            return published

        def late(error: RpcError) -> None:
            nonlocal was_late
            was_late = True
            on_wait()

        try:
            return await retry_transient_errors(
                self._reactor,
                publish,
                what=f"{job.job_id}: publishing",
                is_wanted=is_wanted,
                on_wait=late,
            )
        except RpcError:
            await self.discard(request)
            raise

    def _key(self, request: DownloadRequest | UploadRequest) -> JobKey:
        return JobKey(store_messages.mount_id(request.store), self._owner, request.job_id)

    async def discard(self, request: DownloadRequest | UploadRequest) -> None:
        """Remove the job's directory; a failure is logged, and the next sweep repeats it."""
        job = self._key(request)
        try:
            await self._stores.call(store_messages.DISCARD, job, Acknowledgement)
        except RpcError as error:
            self._log.warn(
                "{job_id}: its directory could not be removed: {error}",
                job_id=job.job_id,
                error=str(error),
            )


def _find_request(request: DownloadRequest | UploadRequest) -> FindRequest:
    mount_id = store_messages.mount_id(request.store)
    return FindRequest(mount_id, request.job_id, request.account_id, request.template_id)
