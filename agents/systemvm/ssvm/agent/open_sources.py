# SPDX-License-Identifier: Apache-2.0
"""What downloads reach inside of this cloud's own networks: sites and the proxy of the zone, other SSVMs.

It begins with the boot arguments. The daemon replaces the zone's part when it connects, so a changed zone
file needs no restart of the VM; an SSVM of another zone is open while a download comes from it.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.agent.store_client import StoreClient
from systemvm.ssvm.store_messages import OpenSources, SourceServer
from systemvm.wire import denied_networks
from systemvm.wire.s3_bucket import S3Bucket
from systemvm.wire.source_networks import SourceNetworks
from systemvm.wire.storage import DownloadRequest


class OpenedSources:
    """`boot` are the boot arguments with the zone's present sites and proxy."""

    _log = Logger(namespace="systemvm.ssvm.agent.open_sources")

    def __init__(self, boot: Mapping[str, str], stores: StoreClient) -> None:
        self.boot = dict(boot)
        self._stores = stores
        self._servers: dict[str, SourceServer] = {}  # by job
        self._endpoints: dict[str, SourceServer] = {}  # of buckets, by store
        self._lock = DeferredLock()
        self._is_known = False  # an earlier agent can have left more open

    async def set_zone(self, networks: SourceNetworks) -> None:
        """Use these sites and this proxy from now on.

        Raises: RpcError when the firewall cannot be changed; policy and firewall stay as they were then.
        """
        changed = {"fetch_allowed": ",".join(networks.allowed_sites), "fetch_proxy": networks.proxy}
        before = dict(self.boot)
        if self._is_known and all(before.get(key, "") == value for key, value in changed.items()):
            return
        self.boot.update(changed)
        try:
            await self._apply()
        except RpcError:
            self.boot = before
            raise

    async def open_for(self, request: DownloadRequest) -> None:
        """Open the firewall for the SSVM that a download comes from, if it comes from one.

        Raises: RpcError when the firewall cannot be changed.
        """
        if request.source_server is None:
            return
        server = SourceServer(request.source_server.address, request.source_server.port)
        if self._servers.get(request.job_id) == server:
            return
        self._servers[request.job_id] = server
        try:
            await self._apply()
        except RpcError:
            self._servers.pop(request.job_id, None)
            raise

    async def open_bucket(self, bucket: S3Bucket) -> None:
        """Open the firewall for the endpoint of a store; one by name must be in the public network.

        Raises: RpcError when the firewall cannot be changed.
        """
        endpoint = SourceServer(bucket.host, bucket.port)
        if not bucket.is_address or self._endpoints.get(bucket.url) == endpoint:
            return
        self._endpoints[bucket.url] = endpoint
        try:
            await self._apply()
        except RpcError:
            self._endpoints.pop(bucket.url, None)
            raise

    def close_bucket(self, bucket: S3Bucket) -> None:
        """Close the firewall for the endpoint of a store that the zone has no more."""
        if self._endpoints.pop(bucket.url, None) is not None:
            Deferred.fromCoroutine(self._close())

    def close_for(self, job_id: str) -> None:
        """Close what was opened for a download; a failure leaves it open until the next change."""
        if self._servers.pop(job_id, None) is not None:
            Deferred.fromCoroutine(self._close())

    def networks_for(self, request: DownloadRequest) -> list[str]:
        """Return what fetch's policy opens for a download."""
        opened = [str(network) for network in denied_networks.opened_networks(self.boot)]
        server = request.source_server
        if server is not None and denied_networks.why_not_an_ssvm(self.boot, server.ip) is None:
            opened.append(str(server.ip))
        return opened

    async def _close(self) -> None:
        try:
            await self._apply()
        except RpcError as error:
            self._log.warn("the firewall stays open: {error}", error=str(error))

    async def _apply(self) -> None:
        """Give the helper the present state; calls follow one another, so the last one wins."""

        async def apply() -> None:
            sites = [site for site in self.boot.get("fetch_allowed", "").split(",") if site]
            servers = sorted(set(self._servers.values()), key=lambda each: (each.address, each.port))
            endpoints = sorted(set(self._endpoints.values()), key=lambda each: (each.address, each.port))
            order = OpenSources(sites, self.boot.get("fetch_proxy", ""), servers, endpoints)
            await self._stores.open_sources(order)
            self._is_known = True

        await self._lock.run(lambda: Deferred.fromCoroutine(apply()))
