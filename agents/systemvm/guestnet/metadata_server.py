# SPDX-License-Identifier: Apache-2.0
"""The HTTP server of the metadata service, as a process of its own: it has no capability and no key."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.web.iweb import INonQueuedRequestFactory
from zope.interface import provider

from systemvm.guestnet.metadata import DataDirectory, answer
from systemvm.service.journal import begin_logging
from systemvm.service.monotonic_clock import use_monotonic_clock
from systemvm.service.sigint import restore_sigint
from systemvm.web.http_site import PublicChannel, PublicRequest, PublicSite
from systemvm.web.plain_port import PlainPort


class MetadataSite(PublicSite):
    """Answers each machine from the file of the address that its connection comes from."""

    def __init__(self, reactor: Any, machines: DataDirectory) -> None:
        super().__init__(reactor, MetadataChannel, MetadataRequest, tuple)  # behind no proxy
        self.machines = machines


class MetadataChannel(PublicChannel):
    """A machine's connection."""

    factory: MetadataSite


@provider(INonQueuedRequestFactory)
class MetadataRequest(PublicRequest):
    """A request, without a body."""

    channel: MetadataChannel

    def gotLength(self, length: int | None) -> None:
        if length != 0:  # None is one of unknown length
            self.refuse_body()
        super().gotLength(0)

    def process(self) -> None:
        if self.method not in (b"GET", b"HEAD"):
            self.answer(405, b"", "text/plain")
            return
        data = self.channel.factory.machines.of(self.client_address)
        path = self.path.decode("latin-1")
        found = None if data is None else answer(path, data)
        kind = "application/octet-stream" if path.rstrip("/").endswith("user-data") else "text/plain"
        self.answer(404 if found is None else 200, found or b"", kind)


def main(directory: Path, listeners: Sequence[int]) -> int:
    """Serve on these listening sockets until SIGTERM or SIGINT."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    use_monotonic_clock(reactor)
    begin_logging("systemvm-guestnet", os.environ)
    site = MetadataSite(reactor, DataDirectory(directory))
    for listener in listeners:
        PlainPort.adopt(reactor, listener, site).startListening()
        os.close(listener)
    restore_sigint()
    reactor.run()
    return 0
