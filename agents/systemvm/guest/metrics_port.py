# SPDX-License-Identifier: Apache-2.0
"""Shows an agent's metrics to Prometheus: `GET /metrics` at the address of the management network.

The socket accepts nothing from another interface, and the firewall only the management network. Prometheus's
library is imported by the first scrape, in a thread: it costs an emulated guest a second.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import INonQueuedRequestFactory
from zope.interface import provider

from systemvm.guest.context import MetricSource
from systemvm.service.connection_limits import Bounds, ConnectionLimits
from systemvm.web.http_site import PublicChannel, PublicRequest, PublicSite
from systemvm.web.plain_port import PlainPort

PORT = 9180
DEVICE = "eth1"  # of the management network, when the boot arguments name no other
PATH = b"/metrics"
_BOUNDS = Bounds(pending=32, pending_of_source=8, of_owner=8)
_TEXT = "text/plain; charset=utf-8"

_log = Logger()


def listen(reactor: Any, boot: Mapping[str, str], sources: Iterable[MetricSource]) -> PlainPort | None:
    """Listen at the management address; None when the VM has none, or the port is taken."""
    device = boot.get("private.network.device") or DEVICE
    address = boot.get(f"{device}ip") or boot.get(f"{device}ip6")
    if not address:
        return None
    try:
        with _listening(address, device) as listening:
            port = PlainPort.adopt(reactor, listening.fileno(), MetricsSite(reactor, sources))
    except (OSError, ValueError) as error:
        _log.warn("metrics are not shown at {address}: {error}", address=address, error=str(error))
        return None
    port.limits = ConnectionLimits(_BOUNDS)
    port.startListening()
    return port


def _listening(address: str, device: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode("ascii"))
        made.bind((address, PORT))
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
        self.answer(500, b"Internal error of the agent.\n", _TEXT)

    def _set_gone(self, _: object) -> None:
        self.gone = True


class MetricsSite(PublicSite):
    """Answers with the metrics of all sources, as they are at that moment."""

    def __init__(self, reactor: Any, sources: Iterable[MetricSource]) -> None:
        super().__init__(reactor, PublicChannel, MetricsRequest, tuple)
        self._sources = sources

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the text and its type, in the format that the client accepts."""
        expose = await deferToThread(_load)
        shown: tuple[bytes, str] = expose([metric for source in self._sources for metric in source()], accept)
        return shown

    def log(self, request: Any) -> None:
        """Log nothing: there is a scrape every few seconds."""


def _load() -> Any:
    from systemvm.guest.exposition import expose

    return expose
