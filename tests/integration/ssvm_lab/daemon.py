# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of a download, connected to the agent's role by a real peer."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort

from integration.ssvm_lab.world import BOOT, STORE, World
from rpc_wait import until
from systemvm.guest.context import AgentContext
from systemvm.guest.paths import GuestPaths as GuestPaths
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, Caller, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.unix_stream import connect_unix_stream, listen_unix_stream
from systemvm.service.scaled_timer import add_scaled_timeout
from systemvm.ssvm.agent.role import install
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.role import Role
from systemvm.wire.storage import DownloadRequest, DownloadStatus, ImageFormat, QuotaReservation
from systemvm.wire.transfer_failure import TransferFailure


class Daemon:
    """Record progress and ends of downloads; `download` starts one and waits for its end."""

    def __init__(self, directory: Path, world: World) -> None:
        self._path = directory / "daemon.sock"
        self._world = world
        self._ends: dict[str, list[Deferred[DownloadStatus]]] = {}
        self.progress: list[DownloadStatus] = []
        self.finished: list[DownloadStatus] = []
        self.reserved: list[QuotaReservation] = []
        self.refuses_from_bytes: int | None = None  # reservations of this size and more
        self.agent: Peer | None = None
        self._agents_peer: Peer | None = None
        self._port: IListeningPort | None = None
        self.context: AgentContext | None = None

    async def start(self) -> Daemon:
        methods = MethodTable("daemon", "test")
        self.add_methods(methods)
        self._port = listen_unix_stream(
            reactor, self._path, methods,
            authorize=lambda uid, gid, pid: Caller("s-1-VM", Role.SSVM.value), on_connected=self._connected,
        )  # fmt: skip
        self.context = AgentContext(
            reactor=reactor, paths=GuestPaths(), name="s-1-VM", role=Role.SSVM, boot=BOOT,
            methods=MethodTable("agent", "test"), sockets={}, find_peer=lambda: self._agents_peer,
        )  # fmt: skip
        install(self.context, self._world.paths)
        await self.connect_agent()
        return self

    async def _reserve(self, call: Call, reservation: QuotaReservation) -> Acknowledgement:
        self.reserved.append(reservation)
        if self.refuses_from_bytes is not None and reservation.size_bytes >= self.refuses_from_bytes:
            raise RpcError.refused(TransferFailure.QUOTA_EXCEEDED, "another SSVM has taken what was left")
        return Acknowledgement()

    def add_methods(self, methods: MethodTable) -> None:
        """Add the methods that an SSVM calls."""
        ssvm = frozenset({Role.SSVM.value})
        for name, handler, params in (
            (storage.TEMPLATE_PROGRESS, self._progress, DownloadStatus),
            (storage.TEMPLATE_FINISHED, self._finished, DownloadStatus),
            (storage.TEMPLATE_RESERVE, self._reserve, QuotaReservation),
        ):
            methods.add(name, handler, params=params, result=Acknowledgement, roles=ssvm)

    async def connect_agent(self) -> None:
        """Connect the agent and run its hooks, as its dialer does."""
        assert self.context is not None
        remote = Caller("management", Role.MANAGEMENT.value)
        self._agents_peer = await connect_unix_stream(
            reactor, self._path, self.context.methods, remote=remote
        )
        await until(lambda: self.agent is not None)
        for hook in self.context.on_connected:
            await hook(self._agents_peer)
        self.context.connected()

    def cut_off(self) -> None:
        """Close the connection between agent and daemon."""
        assert self._agents_peer is not None
        self._agents_peer.close("cut")
        self._agents_peer = self.agent = None

    async def close(self) -> None:
        if self.context is not None:
            for stop in self.context.on_stop:
                await stop()
        if self._agents_peer is not None:
            self._agents_peer.close("test ends")
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)

    async def call(self, method: str, params: Any, result: Any) -> Any:
        assert self.agent is not None
        return await self.agent.call(method, params, result=result, deadline_s=120)

    async def download(self, request: DownloadRequest, timeout_s: float = 60) -> DownloadStatus:
        """Request a download and wait for its end."""
        ended = self.end_of(request.job_id, timeout_s)
        status: DownloadStatus = await self.call(storage.TEMPLATE_DOWNLOAD, request, DownloadStatus)
        return status if status.state.ended else await ended

    def end_of(self, job_id: str, timeout_s: float = 60) -> Deferred[DownloadStatus]:
        waiter: Deferred[DownloadStatus] = Deferred()
        # deadlines of the download itself are longer on a busy machine, too
        add_scaled_timeout(waiter, timeout_s, reactor)
        self._ends.setdefault(job_id, []).append(waiter)
        return waiter

    def _connected(self, peer: Peer) -> None:
        self.agent = peer

    async def _progress(self, call: Call, status: DownloadStatus) -> Acknowledgement:
        self.progress.append(status)
        return Acknowledgement()

    async def _finished(self, call: Call, status: DownloadStatus) -> Acknowledgement:
        self.finished.append(status)
        for waiter in self._ends.pop(status.job_id, []):
            if not waiter.called:
                waiter.callback(status)
        return Acknowledgement()


def request(
    world: World, url: str, image_format: ImageFormat = ImageFormat.RAW, **more: Any
) -> DownloadRequest:
    values: dict[str, Any] = {
        "job_id": str(uuid.uuid4()), "request_id": "r-1", "template_id": 204, "account_id": 2,
        "unique_name": "204-2-test", "description": "A tést = image", "url": url, "format": image_format,
        "store": STORE, "max_size_bytes": 1 << 30, "source_ca_pem": world.ca_pem,
    }  # fmt: skip
    return DownloadRequest(**(values | more))
