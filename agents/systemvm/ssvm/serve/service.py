# SPDX-License-Identifier: Apache-2.0
"""The methods of serve on its socket, and the public listener that they configure."""

from __future__ import annotations

import ssl
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from systemvm.guest.version import VERSION
from systemvm.rpc.core.errors import INVALID_PARAMS, RpcError
from systemvm.rpc.core.method import Call, Caller, MethodTable
from systemvm.service.connection_limits import ConnectionLimits
from systemvm.ssvm import helper_client, store_messages
from systemvm.ssvm.paths import Paths
from systemvm.ssvm.serve.downloads import MAX_TRANSFERS, Downloads
from systemvm.ssvm.serve.http_site import NOT_FOUND, ServeRequest, ServeSite
from systemvm.ssvm.serve.link_table import LinkTable
from systemvm.ssvm.serve.upload_handler import UploadHandler
from systemvm.ssvm.serve.upload_table import UploadTable
from systemvm.ssvm.serve_messages import DROP, DropTemplate
from systemvm.ssvm.store_messages import OpenedImage, OpenObjectRequest, OpenRequest
from systemvm.ssvm.upload_messages import DROP_UPLOAD, SERVE_UPLOADS, DroppedUpload, ServedUploads
from systemvm.web.certificate import CertificateError, server_context
from systemvm.web.challenges import FindContext, PendingChallenges
from systemvm.web.forwarded import Network, holds_proxy, networks
from systemvm.web.plain_port import PlainPort
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.web.public_port import BOUNDS
from systemvm.web.tls_port import TlsPort
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.acme import EXTRACT_CHALLENGE, AcmeChallenges
from systemvm.wire.extract import (
    EXTRACT_LINKS,
    EXTRACT_SERVED,
    EXTRACT_SETUP,
    AccountBytes,
    ExtractLink,
    ExtractLinks,
    ExtractSetup,
    ServedBytes,
)

AGENT = Caller("agent", "agent")
OPEN_TIMEOUT_S = 30.0
SWEEP_INTERVAL_S = 60.0


class ServeService:
    """The endpoint, the links and the transfers of this process."""

    _log = Logger(namespace="systemvm.ssvm.serve.service")

    def __init__(self, reactor: Any, paths: Paths, listener: int) -> None:
        """`listener` is the inherited listening socket; connections are reset until the first setup."""
        self._reactor = reactor
        self._paths = paths
        self._listener = listener
        self._endpoint: PublicEndpoint | None = None
        self._context: ssl.SSLContext | None = None
        self._proxies: list[Network] = []
        self._port: TlsPort | PlainPort | None = None
        self._pool = ThreadPool(0, MAX_TRANSFERS, "transfers")
        self._instance = uuid.uuid4().hex
        self._links = LinkTable(time.time)
        self._downloads = Downloads(reactor, self._pool, self._links, self._open_image)
        self._upload_table = UploadTable(time.time)
        self._uploads = UploadHandler(reactor, self._upload_table, paths.upload_socket)
        self._site = ServeSite(reactor, self._answer, lambda: self._proxies, self._begin)
        self._challenges = PendingChallenges(reactor, self._use_challenges)
        self._sweeping = LoopingCall(self._links.sweep)
        self._sweeping.clock = reactor
        self.methods = self._table()

    def _table(self) -> MethodTable:
        methods = MethodTable("systemvm serve", VERSION)
        roles = frozenset({AGENT.role})
        for name, handler, params in (
            (EXTRACT_SETUP, self.set_up, ExtractSetup),
            (EXTRACT_LINKS, self.put_links, ExtractLinks),
            (EXTRACT_CHALLENGE, self.challenge, AcmeChallenges),
            (DROP, self.drop, DropTemplate),
            (SERVE_UPLOADS, self.put_uploads, ServedUploads),
            (DROP_UPLOAD, self.drop_upload, DroppedUpload),
        ):
            methods.add(name, handler, params=params, result=Acknowledgement, roles=roles)
        methods.add(EXTRACT_SERVED, self.served, params=None, result=ServedBytes, roles=roles)
        return methods

    def authorize(self, uid: int, gid: int, pid: int) -> Caller | None:
        """Accept every caller as the agent: owner and mode of the socket admit nobody else."""
        return AGENT

    def start(self) -> None:
        """Start the workers and listen."""
        self._pool.start()
        self._sweeping.start(SWEEP_INTERVAL_S, now=False)
        self._listen("https")

    async def stop(self) -> None:
        """End every transfer; a worker that waits for its store is left behind."""
        if self._sweeping.running:
            self._sweeping.stop()
        self._challenges.stop()
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
        self._downloads.stop()

    # -- calls of the agent

    async def set_up(self, call: Call, setup: ExtractSetup) -> Acknowledgement:
        """Use this certificate and address from the next connection on.

        An unusable setup changes nothing: the previous one stays in use.
        """
        try:
            endpoint = PublicEndpoint.parse(setup.origin)
            if endpoint.is_wildcard:
                raise ValueError(f"origin of downloads must be one host: {setup.origin!r}")
            proxies = networks(setup.trusted_proxies)
            context = None
            if endpoint.scheme == "https":
                context = server_context(
                    setup.certificate_pem, setup.private_key_pem, host=endpoint.host, now=datetime.now(UTC)
                )
        except (CertificateError, ValueError) as wrong:
            hint = "correct the certificate; the previous one stays in use"
            raise RpcError(INVALID_PARAMS, f"{wrong}", {"hint": hint}) from None
        has_other_scheme = self._endpoint is None or self._endpoint.scheme != endpoint.scheme
        self._endpoint, self._context, self._proxies = endpoint, context, proxies
        if has_other_scheme:
            if self._port is not None:
                await maybeDeferred(self._port.stopListening)
            self._listen(endpoint.scheme)
        self._log.info("serving at {url}", url=endpoint.url)
        return Acknowledgement()

    async def put_links(self, call: Call, links: ExtractLinks) -> Acknowledgement:
        if links.is_first:
            self._links.clear()
        self._links.put(links.links)
        return Acknowledgement()

    async def served(self, call: Call, params: None) -> ServedBytes:
        counted = self._downloads.served_bytes()
        return ServedBytes(self._instance, [AccountBytes(*each) for each in sorted(counted.items())])

    async def challenge(self, call: Call, wanted: AcmeChallenges) -> Acknowledgement:
        """Answer these challenges of an ACME server, and no others."""
        if not isinstance(self._port, TlsPort):
            raise RpcError(INVALID_PARAMS, "challenges need TLS: a proxy in front has the certificate")
        try:
            self._challenges.replace(wanted.challenges)
        except (CertificateError, ValueError) as wrong:
            raise RpcError(INVALID_PARAMS, f"{wrong}") from None
        return Acknowledgement()

    def _use_challenges(self, find: FindContext | None) -> None:
        if isinstance(self._port, TlsPort):
            self._port.challenge = find

    async def drop(self, call: Call, order: DropTemplate) -> Acknowledgement:
        self._downloads.drop_template(order.account_id, order.template_id)
        return Acknowledgement()

    async def put_uploads(self, call: Call, uploads: ServedUploads) -> Acknowledgement:
        self._upload_table.put(uploads.uploads, is_first=uploads.is_first)
        return Acknowledgement()

    async def drop_upload(self, call: Call, dropped: DroppedUpload) -> Acknowledgement:
        self._upload_table.drop(dropped.upload_id)
        return Acknowledgement()

    # -- the listener

    def _listen(self, scheme: str) -> None:
        limits = ConnectionLimits(BOUNDS, lambda source: holds_proxy(source, self._proxies))
        port: TlsPort | PlainPort
        if scheme == "https":
            port = tls_port = TlsPort.adopt(self._reactor, self._listener, self._site)
            tls_port.context = self._tls_context
        else:
            port = PlainPort.adopt(self._reactor, self._listener, self._site)
        port.limits = limits
        port.startListening()
        self._port = port
        self._downloads.sendfile = scheme == "http"

    def _tls_context(self) -> ssl.SSLContext:
        if self._context is None:
            raise ValueError("serve has no certificate yet")  # the transport then resets the connection
        return self._context

    def _begin(self, request: ServeRequest, length_bytes: int | None) -> bool:
        path = None if self._endpoint is None else self._endpoint.route(request.path_text)
        return path is not None and self._uploads.begin(request, path, length_bytes)

    async def _answer(self, request: ServeRequest) -> None:
        endpoint = self._endpoint
        path = None if endpoint is None else endpoint.route(request.path_text)
        if path is None:
            request.respond(404, NOT_FOUND)
        else:
            await self._downloads.answer(request, path)

    async def _open_image(self, link: ExtractLink) -> tuple[OpenedImage, int]:
        mount_id = store_messages.mount_id(link.store)
        is_object = bool(link.store_path)
        opened, descriptors = await helper_client.call(
            self._reactor,
            self._paths.store_socket,
            store_messages.OPEN_OBJECT if is_object else store_messages.OPEN,
            OpenObjectRequest(mount_id, link.store_path)
            if is_object
            else OpenRequest(mount_id, link.account_id, link.template_id),
            OpenedImage,
            OPEN_TIMEOUT_S,
        )
        return opened, descriptors[0]
