# SPDX-License-Identifier: Apache-2.0
"""The sources of copies: an object of a bucket, or a file on a mounted store, instead of a user's URL.

An object is reached at the endpoint that the operator has named; a file is opened by the store's helper.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, Protocol

from attrs import field, frozen
from twisted.internet.defer import Deferred

from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm import helper_client, store_messages
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.bucket_store import BucketStore
from systemvm.ssvm.fetch.route import SourceRoute
from systemvm.ssvm.fetch.source import DownloadSource
from systemvm.ssvm.fetch.store_connector import StoreConnector
from systemvm.ssvm.fetch_messages import CopyOrigin
from systemvm.ssvm.limits import TransferLimits
from systemvm.ssvm.paths import Paths
from systemvm.ssvm.s3 import listing, object_keys, requests
from systemvm.ssvm.s3.endpoint import endpoint_of
from systemvm.ssvm.s3.signing import Signer, credentials_of
from systemvm.ssvm.store_messages import OpenedImage, OpenRequest
from systemvm.wire.s3_bucket import S3Bucket
from systemvm.wire.source_url import SourceUrl
from systemvm.wire.transfer_failure import TransferFailure

_UNUSED = ip_address("192.0.2.1")
#: A link for the mover; it gets another one with each connection.
LINK_EXPIRES_S = 3600


class Finder(Protocol):
    """Where a job's bytes come from; see SourceFinder."""

    async def find(self) -> DownloadSource: ...
    def note(self, error: TransferError) -> None: ...
    def can_replace(self, error: TransferError) -> bool: ...


class OpenFile:
    """A descriptor that is closed as a socket is."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


@frozen
class FileOnStore(DownloadSource):
    """A file that is opened anew for each mover."""

    open_file: Callable[[], Coroutine[Any, Any, OpenFile]] | None = field(default=None, repr=False)

    @property
    def where(self) -> str:
        return "a store"

    def connect(self, reactor: Any, limits: TransferLimits) -> Deferred[Any]:
        if self.open_file is None:
            raise ValueError("there is no file")
        return Deferred.fromCoroutine(self.open_file())


class _OneSource:
    """There is no other place that has the same bytes."""

    def note(self, error: TransferError) -> None:
        """Nothing is chosen by it."""

    def can_replace(self, error: TransferError) -> bool:
        return False


class ObjectFinder(_OneSource):
    """Finds an object of a bucket by a link that is signed anew each time."""

    def __init__(
        self,
        buckets: BucketStore,
        bucket: S3Bucket,
        origin: CopyOrigin,
        checksum: str | None,
        connector: StoreConnector,
    ) -> None:
        self._buckets = buckets
        self._bucket = bucket
        self._key = object_keys.image_key(origin.file.account_id, origin.file.template_id, origin.file.name)
        self._checksum = checksum
        self._connector = connector

    def renew_keys(self, bucket: S3Bucket) -> None:
        """Sign the next link with these keys."""
        self._bucket = bucket

    async def find(self) -> DownloadSource:
        """Return the object.

        Raises: TransferError `source_missing` when it is not in the bucket.
        """
        image = await self._buckets.run(self._bucket, lambda server: listing.head(server, self._key))
        if image is None:
            raise TransferError(
                TransferFailure.SOURCE_MISSING, f"{self._key[:200]} is not on {self._bucket.url}"
            )
        endpoint = endpoint_of(self._bucket)
        signer = Signer(credentials_of(self._bucket), endpoint.region)
        link = requests.presigned_get(endpoint, signer, self._key, LINK_EXPIRES_S, datetime.now(UTC))
        target = link.removeprefix(endpoint.origin)
        scheme = "https" if endpoint.is_tls else "http"
        url = SourceUrl(scheme, endpoint.host, endpoint.port, target, endpoint.path(self._key))
        [address, *_] = await self._connector.addresses()
        return DownloadSource(
            url, SourceRoute(address, endpoint.port), image.size_bytes,
            ca_pem=self._bucket.ca_pem, checksum=self._checksum,
        )  # fmt: skip


class FileFinder(_OneSource):
    """Finds the file of a template that is on a mounted store."""

    def __init__(
        self, reactor: Any, paths: Paths, limits: TransferLimits, origin: CopyOrigin, checksum: str | None
    ) -> None:
        self._reactor = reactor
        self._paths = paths
        self._limits = limits
        self._origin = origin
        self._checksum = checksum

    async def find(self) -> DownloadSource:
        """Return the file; it is opened now, too, for its size."""
        opened, file = await self._open()
        file.close()
        # neither address nor URL is used: a mover that has a file opens no connection
        nowhere = SourceUrl("http", "store", 80, "/")
        return FileOnStore(
            nowhere, SourceRoute(_UNUSED, 80), opened.size_bytes,
            checksum=self._checksum, is_file=True, open_file=self._open_only,
        )  # fmt: skip

    async def _open_only(self) -> OpenFile:
        return (await self._open())[1]

    async def _open(self) -> tuple[OpenedImage, OpenFile]:
        file = self._origin.file
        try:
            opened, descriptors = await helper_client.call(
                self._reactor,
                self._paths.store_socket,
                store_messages.OPEN,
                OpenRequest(self._origin.mount_id, file.account_id, file.template_id),
                OpenedImage,
                self._limits.store_timeout_s,
            )
        except RpcError as error:
            raise TransferError.from_rpc(error) from None
        return opened, OpenFile(descriptors[0])
