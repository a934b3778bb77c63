# SPDX-License-Identifier: Apache-2.0
"""The agent's calls of serve: what the daemon ordered, sent again to every new process of serve.

serve runs only while there is a link to serve or an upload to take: the first one connects to its socket,
which starts it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from systemvm.rpc.core.errors import NOT_CONNECTED, RpcError
from systemvm.rpc.core.method import Call, Caller, MethodTable, Offer
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.unix_stream import connect_unix_stream
from systemvm.service.metrics import Metric
from systemvm.service.single_flight import SingleFlight
from systemvm.ssvm.serve_messages import DROP, DropTemplate
from systemvm.ssvm.upload_messages import (
    DROP_UPLOAD,
    SERVE_UPLOADS,
    DroppedUpload,
    ServedUpload,
    ServedUploads,
    UploadEnd,
)
from systemvm.web.certificate import expiry_unix_s
from systemvm.web.expiry_metric import expiry_metrics
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.acme import EXTRACT_CHALLENGE, AcmeChallenges
from systemvm.wire.call_refusal import CallRefusal
from systemvm.wire.extract import (
    EXTRACT_LINKS,
    EXTRACT_SERVED,
    EXTRACT_SETUP,
    LINKS_PAGE,
    ExtractLink,
    ExtractLinks,
    ExtractSetup,
    ServedBytes,
)
from systemvm.wire.role import Role
from systemvm.wire.upload import UploadRequest

SERVE = Caller("serve", "serve")
RECONNECT_INTERVAL_S = 1.0
#: systemd starts serve at the first connection; its imports take long without KVM.
START_DEADLINE_S = 60.0
CALL_DEADLINE_S = 90.0
#: Ends of uploads that are kept for a client that asks again; one message takes them and those that run.
MAX_ENDED_UPLOADS = 128


class Serving:
    """The current setup and links; `unix_s` returns the time that the links' expiry is compared with."""

    _log = Logger(namespace="systemvm.ssvm.agent.serving")

    def __init__(self, reactor: Any, path: Path, unix_s: Callable[[], float] = time.time) -> None:
        self._reactor = reactor
        self._path = path
        self._unix_s = unix_s
        self._setup: ExtractSetup | None = None
        self._expires_unix_s: float | None = None
        self._links: dict[str, ExtractLink] = {}
        self._uploads: dict[str, ServedUpload] = {}  # by job id
        self._peer: Peer | None = None
        self._connecting = SingleFlight[Path]()
        self._reconnect: IDelayedCall | None = None
        self._stopped = False

    def add_methods(self, methods: MethodTable) -> None:
        """Add the daemon's methods."""
        offers = [
            Offer(name, handler, params, Acknowledgement, summary, deadline_s=CALL_DEADLINE_S)
            for name, handler, params, summary in (
                (EXTRACT_SETUP, self.set_up, ExtractSetup, "Set the public certificate and address of links"),
                (EXTRACT_LINKS, self.put_links, ExtractLinks, "Serve temporary links to images"),
                (
                    EXTRACT_CHALLENGE,
                    self.challenge,
                    AcmeChallenges,
                    "Answer the handshakes by which an ACME server checks names, or no more",
                ),
            )
        ]
        served = "Return what was sent by links, by account"
        offers.append(Offer(EXTRACT_SERVED, self.served, None, ServedBytes, served))
        methods.add_all(frozenset({Role.MANAGEMENT.value}), offers)

    def metrics(self) -> list[Metric]:
        return expiry_metrics(self._expires_unix_s)

    async def set_up(self, call: Call, setup: ExtractSetup) -> Acknowledgement:
        """Use this certificate and address.

        Raises: RpcError when serve runs and rejects them.
        """
        self._setup = setup
        self._expires_unix_s = None
        with suppress(ValueError):  # serve rejects it, with the reason; behind a proxy there is none
            self._expires_unix_s = expiry_unix_s(setup.certificate_pem)
        if self._is_connected:
            await self._call(EXTRACT_SETUP, setup)
        elif self._is_needed:
            self._connect_soon()
        return Acknowledgement()

    async def put_links(self, call: Call, order: ExtractLinks) -> Acknowledgement:
        """Serve more links, or these only.

        Raises: RpcError when serve cannot be started.
        """
        if order.is_first:
            self._links.clear()
        self._links.update((link.secret, link) for link in order.links)
        self._links = {link.secret: link for link in self._live_links()}
        if self._is_connected:
            await self._call(EXTRACT_LINKS, order)
        elif self._links and self._setup is not None:
            await self._connected()
        return Acknowledgement()

    async def served(self, call: Call, params: None) -> ServedBytes:
        """Return what serve has counted; nothing while it does not run."""
        if self._peer is None or not self._is_connected:
            return ServedBytes()
        served: ServedBytes = await self._peer.call(EXTRACT_SERVED, result=ServedBytes)
        return served

    async def challenge(self, call: Call, wanted: AcmeChallenges) -> Acknowledgement:
        """Have serve answer these challenges, which starts it; it forgets them by itself.

        Raises: RpcError when there is no certificate yet, or serve cannot be started or rejects them.
        """
        if self._setup is None or not self._setup.certificate_pem:
            raise RpcError.refused(
                CallRefusal.CANNOT_LISTEN, "links have no certificate yet", "repeat it later"
            )
        if wanted.challenges:
            await self._connected()
        if self._is_connected:
            await self._call(EXTRACT_CHALLENGE, wanted)
        return Acknowledgement()

    async def drop(self, account_id: int, template_id: int) -> None:
        """End the transfers of a template before its files are deleted; without serve there are none."""
        dropped = DropTemplate(account_id, template_id)
        for secret, link in list(self._links.items()):
            if link.is_of(account_id, template_id):
                del self._links[secret]
        if self._is_connected:
            try:
                await self._call(DROP, dropped)
            except RpcError as error:
                self._log.warn("serve did not drop a template: {error}", error=str(error))

    async def put_upload(self, request: UploadRequest) -> None:
        """Return when serve takes requests for an upload; without a setup that is after the first one.

        Raises: RpcError when serve cannot be started.
        """
        known = self._uploads.get(request.job_id)
        upload = self._uploads[request.job_id] = ServedUpload(
            request.upload_id,
            request.job_id,
            request.metadata,
            request.expires,
            request.expires_unix_s,
            request.signature,
            request.max_size_bytes,
            request.allowed_origins,
            None if known is None else known.end,
        )
        if self._is_connected:
            await self._call(SERVE_UPLOADS, ServedUploads([upload]))
        elif self._setup is not None and upload.end is None:
            await self._connected()

    def end_upload(self, job_id: str, end: UploadEnd) -> None:
        """Answer the clients of an upload whose job has ended; nothing happens for other jobs."""
        upload = self._uploads.pop(job_id, None)  # the one that ended last is kept longest
        if upload is None:
            return
        upload = self._uploads[job_id] = evolve(upload, end=end)
        if self._is_connected:
            self._send(SERVE_UPLOADS, ServedUploads([upload]))
        ended = [each for each in self._uploads.values() if each.end is not None]
        for each in ended[: max(0, len(ended) - MAX_ENDED_UPLOADS)]:
            self.drop_upload(each.job_id)

    def drop_upload(self, job_id: str) -> None:
        """Forget an upload; nothing happens for other jobs."""
        upload = self._uploads.pop(job_id, None)
        if upload is not None and self._is_connected:
            self._send(DROP_UPLOAD, DroppedUpload(upload.upload_id))

    def _send(self, method: str, params: object) -> None:
        """Call serve without waiting: a call that fails ends the connection, and the next one sends all."""

        async def send() -> None:
            try:
                await self._call(method, params)
            except RpcError as error:
                self._log.warn("serve did not take an upload: {error}", error=str(error))
                if self._peer is not None:
                    self._peer.close("serve did not take an upload")

        Deferred.fromCoroutine(send())

    def stop(self) -> None:
        self._stopped = True
        if self._reconnect is not None and self._reconnect.active():
            self._reconnect.cancel()
        if self._peer is not None:
            self._peer.close("the agent stops")

    # -- the connection

    @property
    def _is_connected(self) -> bool:
        return self._peer is not None and not self._peer.closed

    @property
    def _is_needed(self) -> bool:
        """Whether there is anything for serve to do."""
        return bool(self._live_links()) or any(each.end is None for each in self._uploads.values())

    def _live_links(self) -> list[ExtractLink]:
        now_s = self._unix_s()
        return [link for link in self._links.values() if link.expires_unix_s > now_s]

    async def _call(self, method: str, params: object) -> None:
        if self._peer is None:
            raise RpcError(NOT_CONNECTED, "serve is not connected")
        await self._peer.call(method, params, result=Acknowledgement, deadline_s=START_DEADLINE_S)

    async def _connected(self) -> None:
        """Return when serve has everything.

        Raises: RpcError when it cannot be reached; it is tried again while there are links.
        """
        try:
            await self._connecting.run(self._path, self._connect)
        except RpcError:
            self._connect_soon()
            raise

    async def _connect(self) -> None:
        if self._is_connected or self._setup is None:
            return
        try:
            peer = await connect_unix_stream(
                self._reactor, self._path, MethodTable("agent", "1"), remote=SERVE
            )
        except RpcError as error:
            hint = {"hint": 'run "systemctl status systemvm-serve.socket" in the SSVM'}
            raise RpcError(NOT_CONNECTED, f"serve cannot be started: {error.message}", hint) from None
        self._peer = peer
        try:
            # links first: serve accepts no connection without a certificate, so none gets a 404 meanwhile
            live = self._live_links()
            for start in range(0, len(live), LINKS_PAGE):
                page = ExtractLinks(live[start : start + LINKS_PAGE], is_first=not start)
                await self._call(EXTRACT_LINKS, page)
            await self._call(SERVE_UPLOADS, ServedUploads(list(self._uploads.values()), is_first=True))
            await self._call(EXTRACT_SETUP, self._setup)
        except RpcError:
            peer.close("serve did not take its links")
            raise
        peer.when_closed().addCallback(self._lost)

    def _lost(self, why: str) -> None:
        self._log.info("Connection to serve lost: {why}", why=why)
        self._connect_soon()

    def _connect_soon(self) -> None:
        if self._stopped or (self._reconnect is not None and self._reconnect.active()):
            return
        self._reconnect = self._reactor.callLater(RECONNECT_INTERVAL_S, self._connect_if_needed)

    def _connect_if_needed(self) -> None:
        if self._is_needed and self._setup is not None and not self._is_connected:
            connected = Deferred.fromCoroutine(self._connected())
            connected.addErrback(lambda failure: self._log.info("{why}", why=str(failure.value)))
