# SPDX-License-Identifier: Apache-2.0
"""One download or upload as the agent knows it, and the statuses that it can end with."""

from __future__ import annotations

from attrs import define, evolve
from twisted.internet.defer import Deferred

from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.limits import KIB, TIB
from systemvm.ssvm.store_messages import PublishedTemplate
from systemvm.wire.storage import CopyRequest, DownloadRequest, DownloadState, DownloadStatus, Store
from systemvm.wire.transfer_failure import TransferFailure
from systemvm.wire.upload import UploadRequest

#: A published image was checked against the zone's limit when it came.
MAX_COPY_BYTES = 64 * TIB
#: This many more bytes between two deaths of fetch are progress.
PROGRESS_BYTES = 64 * KIB


@define
class Download:
    """A job from its start at fetch until it is forgotten."""

    request: DownloadRequest | UploadRequest
    status: DownloadStatus
    copy: CopyRequest | None = None  # what it was ordered as
    instance: str = ""  # of the fetch that runs it
    restarts: int = 0  # by a fetch that died, without new bytes since
    best_bytes: int = 0  # received when the last fetch died
    publishing: Deferred[None] | None = None
    is_abandoned: bool = False  # it is to be aborted: nothing of it is retried

    def restart(self, instance: str) -> bool:
        """Note that another fetch takes the job; return False when two have died without new bytes."""
        self.instance = instance
        received_bytes = self.status.received_bytes
        if received_bytes >= self.best_bytes + PROGRESS_BYTES:
            self.best_bytes, self.restarts = received_bytes, 0
        self.restarts += 1
        return self.restarts <= 1 or isinstance(self.request, UploadRequest)  # its client decides

    def uses(self, store: Store) -> bool:
        """Whether the job writes to a store, or copies from it."""
        stores = [self.request.store] + ([] if self.copy is None else [self.copy.source])
        return store.location in (each.location for each in stores)

    @property
    def is_active(self) -> bool:
        return not self.status.state.ended

    @property
    def is_at_fetch(self) -> bool:
        """Whether fetch can still report on it."""
        return self.is_active and self.publishing is None


def as_download(copy: CopyRequest) -> DownloadRequest:
    """Return a copy as the download of a file whose place is known instead of its URL."""
    file = copy.source_file
    if file is None:
        raise RpcError.refused(TransferFailure.REQUEST_INVALID, "a snapshot cannot be copied to a bucket")
    return DownloadRequest(
        job_id=copy.job_id,
        request_id=copy.request_id,
        template_id=copy.template_id,
        account_id=copy.account_id,
        unique_name=copy.unique_name,
        description=copy.description,
        url=f"{copy.source.location}/{file.account_id}/{file.template_id}/{file.name}",
        format=copy.format,
        store=copy.store,
        max_size_bytes=MAX_COPY_BYTES,
        checksum=copy.source_checksum,
        public=copy.public,
        hvm=copy.hvm,
    )


def downloaded(status: DownloadStatus, published: PublishedTemplate) -> DownloadStatus:
    """Return the status of a job whose template is published."""
    return evolve(
        status,
        state=DownloadState.DOWNLOADED,
        waits_for_store=False,
        waits_for_turn=False,
        waits_for_source=False,
        install_path=published.install_path,
        physical_size_bytes=published.size_bytes,
        virtual_size_bytes=published.virtual_size_bytes,
        checksum=published.checksum,
    )


def failed(status: DownloadStatus, error: TransferError) -> DownloadStatus:
    """Return the status of a job that ended with `error`."""
    return evolve(
        status,
        state=DownloadState.DOWNLOAD_ERROR,
        error=error.to_download_error(),
        waits_for_store=False,
        waits_for_turn=False,
        waits_for_source=False,
    )


def fetch_died_twice() -> TransferError:
    return TransferError(
        TransferFailure.WORKER_DIED,
        "fetch died twice during this download",
        "retry the template; read the journal of the SSVM for the cause",
    )
