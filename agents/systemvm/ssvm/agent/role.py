# SPDX-License-Identifier: Apache-2.0
"""The SSVM's role in the agent: the methods that the daemon calls.

The agent has the keys, so it uses no network but the control channel: fetch downloads, and root helpers
access the store.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from attrs import evolve

from systemvm.guest.context import AgentContext
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.service.metrics import Metric
from systemvm.service.single_flight import SingleFlight
from systemvm.service.slowness import timeout_scale
from systemvm.ssvm import store_messages
from systemvm.ssvm.agent.copies import CopyManager
from systemvm.ssvm.agent.download import as_download
from systemvm.ssvm.agent.downloads import DownloadManager
from systemvm.ssvm.agent.open_sources import OpenedSources
from systemvm.ssvm.agent.recordings import RecordingMethods
from systemvm.ssvm.agent.serving import Serving
from systemvm.ssvm.agent.snapshots import SnapshotMethods
from systemvm.ssvm.agent.store_client import StoreClient
from systemvm.ssvm.paths import Paths
from systemvm.ssvm.s3 import object_keys, requests, signing
from systemvm.ssvm.s3.endpoint import endpoint_of
from systemvm.ssvm.store_messages import require_file_name
from systemvm.ssvm.upload_messages import UploadEnd
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.agent import Capability
from systemvm.wire.extract import EXTRACT_PRESIGN, PresignedLink, PresignRequest
from systemvm.wire.role import Role
from systemvm.wire.source_networks import STORAGE_SOURCES, SourceNetworks
from systemvm.wire.storage import (
    BrowseRequest,
    CopyRequest,
    DownloadAbort,
    DownloadRequest,
    DownloadStatus,
    JobListing,
    StorageSweep,
    Store,
    StoreObjects,
    StoreStats,
    TemplateDelete,
    TemplateListing,
    TemplateListRequest,
    TemplateQuarantine,
)
from systemvm.wire.transfer_failure import TransferFailure
from systemvm.wire.upload import TEMPLATE_UPLOAD, UploadRequest

DELETE_TIMEOUT_S = 110.0

#: Name, handler, types of parameters and result, deadline in seconds, summary.
_Method = tuple[str, Callable[..., Any], type | None, type, float, str]


def install(context: AgentContext, paths: Paths | None = None) -> StorageRole:
    """Add the methods of this role to the agent; tests pass other `paths`."""
    role = StorageRole(context, paths or Paths())
    role.add_methods(context.methods)
    context.find_capabilities = role.capabilities
    context.on_connected.append(role.daemon_connected)
    context.on_stop.append(role.stop)
    context.metrics.append(role.metrics)
    return role


class StorageRole:
    """The methods of an SSVM for the daemon."""

    def __init__(self, context: AgentContext, paths: Paths) -> None:
        self._name = context.name
        self._paths = paths
        self._stores = StoreClient(context.reactor, paths, lambda: self._downloads.fetch())
        self._opened = OpenedSources(context.boot, self._stores)
        self._serving = Serving(context.reactor, paths.serve_socket)
        self._downloads = DownloadManager(
            context,
            paths,
            self._stores,
            other_jobs=lambda: self._copies.active_job_ids(),
            opened=self._opened,
            on_end=self._ended,
        )
        self._copies = CopyManager(context, self._stores, self._downloads.sweeps.ended)
        #: Work for a store, by method and store: calls that arrive while it runs join it.
        self._running = SingleFlight[tuple[object, ...]]()

    def capabilities(self) -> list[Capability]:
        """Return what the image has the sockets for: units of an older one lack some after a patch."""
        sockets = {Capability.LINKS: self._paths.serve_socket, Capability.UPLOADS: self._paths.upload_socket}
        return [capability for capability, path in sockets.items() if path.is_socket()]

    def metrics(self) -> list[Metric]:
        return self._serving.metrics()

    def add_methods(self, methods: MethodTable) -> None:
        self._serving.add_methods(methods)
        RecordingMethods(self._stores).add_methods(methods)
        SnapshotMethods(self._stores).add_methods(methods)
        daemon = frozenset({Role.MANAGEMENT.value})
        table = (*self._store_methods(), *self._template_methods())
        for name, handler, params, result, deadline_s, summary in table:
            methods.add(
                name,
                handler,
                params=params,
                result=result,
                roles=daemon,
                summary=summary,
                deadline_s=deadline_s,
                # these only wait for work that continues anyway, and that the next call joins
                cancel_on_disconnect=name not in (storage.TEMPLATE_ABORT, storage.TEMPLATE_DELETE),
            )

    def _store_methods(self) -> tuple[_Method, ...]:
        return (
            (storage.STORAGE_SETUP, self.setup, Store, StoreStats, 180.0,
             "Mount a store and return its size"),
            (storage.STORAGE_RELEASE, self.release, Store, Acknowledgement, 180.0, "Unmount a store"),
            (storage.STORAGE_STATS, self.stats, Store, StoreStats, 60.0, "Return how full a store is"),
            (storage.STORAGE_SWEEP, self.sweep, StorageSweep, StoreStats, 90.0,
             "Remove what unwanted downloads have left on a store"),
            (storage.STORAGE_JOBS, self.jobs, None, JobListing, 30.0, "List the downloads"),
            (STORAGE_SOURCES, self.sources, SourceNetworks, Acknowledgement, 90.0,
             "Open the sites and the proxy of the zone for downloads, and close all others"),
            (storage.STORAGE_BROWSE, self.browse, BrowseRequest, StoreObjects, 60.0,
             "List a directory of a store"),
        )  # fmt: skip

    def _template_methods(self) -> tuple[_Method, ...]:
        return (
            (storage.TEMPLATE_LIST, self.list_templates, TemplateListRequest, TemplateListing, 90.0,
             "List a page of the templates on a store"),
            (storage.TEMPLATE_DOWNLOAD, self.download, DownloadRequest, DownloadStatus, 60.0,
             "Start a download, or return its status"),
            (TEMPLATE_UPLOAD, self.upload, UploadRequest, DownloadStatus, 60.0,
             "Accept an upload, or return its status"),
            (storage.TEMPLATE_COPY, self.copy, CopyRequest, DownloadStatus, 60.0,
             "Start a copy between two stores, or return its status"),
            (storage.TEMPLATE_QUARANTINE, self.quarantine, TemplateQuarantine, Acknowledgement, 90.0,
             "Move a template that nothing refers to out of sight"),
            (EXTRACT_PRESIGN, self.presign, PresignRequest, PresignedLink, 30.0,
             "Sign a temporary link to an object of a bucket"),
            (storage.TEMPLATE_ABORT, self.abort, DownloadAbort, Acknowledgement, 120.0,
             "Stop a download and remove its files"),
            (storage.TEMPLATE_DELETE, self.delete, TemplateDelete, Acknowledgement, 120.0,
             "Remove a template from its store"),
        )  # fmt: skip

    async def setup(self, call: Call, store: Store) -> StoreStats:
        """Mount a store, and remove what ended jobs have left on it."""

        async def mount_and_sweep() -> StoreStats:
            if store.s3 is not None:
                await self._opened.open_bucket(store.s3)
            has_other_keys = self._stores.has_other_keys(store)
            await self._stores.mount(store)
            if has_other_keys:
                await self._downloads.renew_keys(store)
            if store.read_only:
                return await self.stats(call, store)
            return await self._downloads.sweeps.run(store)

        key = (storage.STORAGE_SETUP, store)  # with its keys: others are another setup
        stats: StoreStats = await self._running.run(key, mount_and_sweep)
        return stats

    async def release(self, call: Call, store: Store) -> Acknowledgement:
        """Unmount a store; repeating it has no effect."""
        await self._stores.unmount(store)
        if store.s3 is not None:
            self._opened.close_bucket(store.s3)
        return Acknowledgement()

    async def sweep(self, call: Call, order: StorageSweep) -> StoreStats:
        """Remove the files of all jobs that are neither running nor wanted by the daemon."""
        await self._stores.ensure_mounted(order.store)
        return await self._downloads.sweeps.run(order.store, order.wanted_job_ids)

    async def sources(self, call: Call, networks: SourceNetworks) -> Acknowledgement:
        await self._opened.set_zone(networks)
        return Acknowledgement()

    async def stats(self, call: Call, store: Store) -> StoreStats:
        order = store_messages.StatsRequest(store_messages.mount_id(store))
        stats: StoreStats = await self._running.run(
            (storage.STORAGE_STATS, order.mount_id),
            lambda: self._stores.call(store_messages.STATS, order, StoreStats),
        )
        return stats

    async def jobs(self, call: Call, params: None) -> JobListing:
        return JobListing([*self._downloads.statuses(), *self._copies.statuses()])

    async def list_templates(self, call: Call, request: TemplateListRequest) -> TemplateListing:
        """List templates; a store that is not mounted or cannot be read is an RpcError, not an empty list."""
        await self._stores.ensure_mounted(request.store)
        order = store_messages.ListRequest(store_messages.mount_id(request.store), request.after)
        try:
            page: TemplateListing = await self._running.run(
                (storage.TEMPLATE_LIST, order.mount_id, order.after),
                lambda: self._stores.call(store_messages.LIST, order, TemplateListing),
            )
        except RpcError as error:
            if error.reason == TransferFailure.STORE_NOT_MOUNTED.value:
                self._stores.mark_unmounted(request.store)
            raise
        return page

    async def download(self, call: Call, request: DownloadRequest) -> DownloadStatus:
        known = self._copies.status_of(request.job_id)  # a job that began as a copy stays one
        return known or await self._downloads.get_or_start(request)

    async def upload(self, call: Call, request: UploadRequest) -> DownloadStatus:
        """Have a file received from its user: fetch waits for it, and serve takes the user's requests."""
        status = await self._downloads.get_or_start(request)
        await self._serving.put_upload(request)
        status = self._downloads.status_of(request.job_id) or status  # it can have ended meanwhile
        if status.state.ended:
            received_bytes = status.received_bytes or request.total_bytes or 0
            self._ended(evolve(status, received_bytes=received_bytes))
        return status

    def _ended(self, status: DownloadStatus) -> None:
        error = status.error
        end = UploadEnd() if error is None else UploadEnd(error.code, error.message)
        self._serving.end_upload(status.job_id, evolve(end, total_bytes=status.received_bytes))

    async def copy(self, call: Call, request: CopyRequest) -> DownloadStatus:
        known = self._downloads.status_of(request.job_id)
        if known is not None:
            return known
        if request.source.s3 is None and request.store.s3 is None:
            return self._copies.get_or_start(request)
        # root's helper has no network: a mover copies what comes from a bucket or goes to one
        return await self._downloads.get_or_start(as_download(request), request)

    async def abort(self, call: Call, abort: DownloadAbort) -> Acknowledgement:
        await self._abort(abort.job_id)
        return Acknowledgement()

    async def quarantine(self, call: Call, order: TemplateQuarantine) -> Acknowledgement:
        await self._stores.ensure_mounted(order.store)
        mount_id = store_messages.mount_id(order.store)
        move = store_messages.QuarantineRequest(mount_id, order.account_id, order.template_id, order.job_id)
        await self._stores.call(store_messages.QUARANTINE, move, Acknowledgement)
        return Acknowledgement()

    async def browse(self, call: Call, request: BrowseRequest) -> StoreObjects:
        await self._stores.ensure_mounted(request.store)
        mount_id = store_messages.mount_id(request.store)
        order = store_messages.BrowseStoreRequest(mount_id, request.path, request.after)
        found: StoreObjects = await self._stores.call(store_messages.BROWSE, order, StoreObjects)
        return found

    async def presign(self, call: Call, request: PresignRequest) -> PresignedLink:
        """Sign a link to an object; the server that serves it checks that the object is there."""
        bucket = self._stores.bucket_of(request.store)
        if bucket is None or not 0 < request.expires_s <= signing.MAX_EXPIRES_S:
            raise RpcError.refused(
                TransferFailure.REQUEST_INVALID, "a link is for a bucket, and for 7 days at most"
            )
        endpoint, file, key = endpoint_of(bucket), request.file, request.path
        if file is not None:
            key = object_keys.image_key(file.account_id, file.template_id, require_file_name(file.name))
        if not 0 < len(key.encode()) <= object_keys.MAX_KEY_BYTES:
            raise RpcError.refused(TransferFailure.REQUEST_INVALID, "a key has 1 to 1024 bytes")
        signer = signing.Signer(signing.credentials_of(bucket), endpoint.region)
        now = datetime.now(UTC)
        return PresignedLink(requests.presigned_get(endpoint, signer, key, request.expires_s, now))

    async def _abort(self, job_id: str) -> None:
        self._serving.drop_upload(job_id)
        await self._copies.abort(job_id)
        await self._downloads.abort(job_id)

    async def delete(self, call: Call, order: TemplateDelete) -> Acknowledgement:
        """Stop the download of a template, if it runs, and remove the template from its store."""
        await self._abort(order.job_id)
        await self._serving.drop(order.account_id, order.template_id)
        await self._stores.ensure_mounted(order.store)
        mount_id = store_messages.mount_id(order.store)
        delete = store_messages.DeleteRequest(mount_id, self._name, order.account_id, order.template_id)
        scale = timeout_scale()  # the caller's time is scaled, the timeout of a helper is not
        timeout_s = call.remaining_s(DELETE_TIMEOUT_S * scale) / scale
        await self._stores.call(store_messages.DELETE, delete, Acknowledgement, timeout_s)
        return Acknowledgement()

    async def daemon_connected(self, peer: Peer) -> None:
        self._downloads.resend_statuses()
        self._copies.resend_statuses()

    async def stop(self) -> None:
        self._serving.stop()
        self._downloads.stop()
        self._copies.stop()
