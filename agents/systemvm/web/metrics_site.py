# SPDX-License-Identifier: Apache-2.0
"""Answers Prometheus: `GET /metrics`, and nothing else, at one address."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import INonQueuedRequestFactory
from zope.interface import provider

from systemvm.service.connection_limits import Bounds, ConnectionLimits
from systemvm.web.http_site import PublicChannel, PublicRequest, PublicSite
from systemvm.web.plain_port import PlainPort

PATH = b"/metrics"
_BOUNDS = Bounds(pending=32, pending_of_source=8, of_owner=8)
_TEXT = "text/plain; charset=utf-8"

#: Returns the text and its type, in the format that the Accept header prefers.
Expose = Callable[[str], Awaitable[tuple[bytes, str]]]

_log = Logger()


def listen_at(reactor: Any, address: str, port: int, device: str | None, expose: Expose) -> PlainPort:
    """Listen at an address; with a device, nothing that comes in by another one is accepted.

    Raises: OSError when the address or the port cannot be used.
    """
    with listening_socket(address, port, device) as listening:
        made = PlainPort.adopt(reactor, listening.fileno(), MetricsSite(reactor, expose))
    made.limits = ConnectionLimits(_BOUNDS)
    made.startListening()
    return made


def listening_socket(address: str, port: int, device: str | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if device is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode("ascii"))
        made.bind((address, port))
        made.listen()
    except BaseException:
        made.close()
        raise
    return made


@provider(INonQueuedRequestFactory)
class MetricsRequest(PublicRequest):
    """A scrape."""

    channel: Any

    def gotLength(self, length: int | None) -> None:
        if length or self.requestHeaders.hasHeader(b"Transfer-Encoding"):
            self.refuse_body()
            length = 0
        super().gotLength(length)

    def process(self) -> None:
        if self.gone:
            return
        self.notifyFinish().addErrback(self._set_gone)
        if self.path != PATH:
            self.answer(404, b"Not found. The metrics are at /metrics.\n", _TEXT)
        elif self.method not in (b"GET", b"HEAD"):
            self.setHeader("Allow", "GET, HEAD")
            self.answer(405, b"Method not allowed. Allowed: GET, HEAD.\n", _TEXT)
        else:
            showing = Deferred.fromCoroutine(self.channel.factory.exposition(self.header("Accept")))
            showing.addCallbacks(lambda shown: self.answer(200, *shown), self._failed)

    def _failed(self, failure: Failure) -> None:
        _log.failure("cannot show metrics", failure=failure)
        self.answer(500, b"Internal error: the metrics cannot be collected.\n", _TEXT)

    def _set_gone(self, _: object) -> None:
        self.gone = True


class MetricsSite(PublicSite):
    """Answers with the metrics as they are at that moment."""

    def __init__(self, reactor: Any, expose: Expose) -> None:
        super().__init__(reactor, PublicChannel, MetricsRequest, tuple)
        self._expose = expose

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the text and its type, in the format that the client accepts."""
        return await self._expose(accept)

    def log(self, request: Any) -> None:
        """Log nothing: there is a scrape every few seconds."""
