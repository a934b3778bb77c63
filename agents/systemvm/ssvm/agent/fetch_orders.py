# SPDX-License-Identifier: Apache-2.0
"""What the agent tells fetch to begin a job: the daemon's request, with what this SSVM knows of its zone."""

from __future__ import annotations

from collections.abc import Mapping

from systemvm.ssvm import store_messages
from systemvm.ssvm.agent.download import Download
from systemvm.ssvm.agent.open_sources import OpenedSources
from systemvm.ssvm.agent.source_proxy import with_proxy
from systemvm.ssvm.agent.store_client import StoreClient
from systemvm.ssvm.fetch_messages import START, CopyOrigin, DeniedNetwork, StartRequest
from systemvm.ssvm.upload_messages import START_UPLOAD, UploadOrder
from systemvm.wire import denied_networks
from systemvm.wire.storage import CopyRequest, DownloadRequest, Store
from systemvm.wire.upload import UploadRequest


class FetchOrders:
    """Makes the call that begins a job; `name` and `boot` are this VM's name and boot arguments."""

    def __init__(
        self, name: str, boot: Mapping[str, str], stores: StoreClient, opened: OpenedSources
    ) -> None:
        self._name = name
        self._boot = boot
        self._stores = stores
        self._opened = opened

    def call_for(self, download: Download) -> tuple[str, StartRequest | UploadOrder]:
        """Return the method and its parameters."""
        request = download.request
        if isinstance(request, UploadRequest):
            return START_UPLOAD, self._of_upload(request, download.status.total_bytes)
        return START, self._of_download(request, download.copy)

    def _of_upload(self, request: UploadRequest, total_bytes: int | None) -> UploadOrder:
        return UploadOrder(
            self._name,
            request.job_id,
            request.request_id,
            request.template_id,
            request.format,
            request.store,
            request.max_size_bytes,
            request.expires_unix_s,
            request.checksum,
            total_bytes if total_bytes is not None else request.total_bytes,
            request.quota_bytes is not None,
            request.account_id,
            self._stores.bucket_of(request.store),
        )

    def _of_download(self, request: DownloadRequest, copy: CopyRequest | None) -> StartRequest:
        denied = [
            *(
                DeniedNetwork(str(net), what)
                for net, what in denied_networks.zone_networks(self._boot).items()
            ),
            *_storage_server(request.store),
            *(DeniedNetwork(cidr, denied_networks.OWN_ADDRESS) for cidr in request.denied_networks),
        ]
        return StartRequest(
            self._name,
            with_proxy(request, self._opened.boot),
            denied,
            self._opened.networks_for(request),
            self._stores.bucket_of(request.store),
            self._origin(copy),
        )

    def _origin(self, copy: CopyRequest | None) -> CopyOrigin | None:
        if copy is None or copy.source_file is None:
            return None
        bucket = self._stores.bucket_of(copy.source)
        return CopyOrigin(store_messages.mount_id(copy.source), copy.source_file, bucket)


def _storage_server(store: Store) -> list[DeniedNetwork]:
    """Return the server of a mounted store; that of a bucket serves whoever has its keys."""
    return [DeniedNetwork(store.server, denied_networks.STORAGE_SERVER)] if store.s3 is None else []
