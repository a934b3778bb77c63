# SPDX-License-Identifier: Apache-2.0
"""The HTTP server of metadata and passwords, as a process of its own: it has no capability and no key."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.web.iweb import INonQueuedRequestFactory
from zope.interface import provider

from systemvm.guestnet import passwords
from systemvm.guestnet.metadata import DataDirectory, answer
from systemvm.guestnet.passwords import HEADER, PasswordDirectory
from systemvm.host.guest_services import METADATA_PORT, PASSWORD_PORT
from systemvm.service.journal import begin_logging
from systemvm.service.monotonic_clock import use_monotonic_clock
from systemvm.service.sigint import run_until_sigint
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


class BodilessRequest(PublicRequest):
    """A request without a body."""

    def gotLength(self, length: int | None) -> None:
        if length != 0:  # None is one of unknown length
            self.refuse_body()
        super().gotLength(0)


@provider(INonQueuedRequestFactory)
class MetadataRequest(BodilessRequest):
    """A request for meta-data or user data."""

    channel: MetadataChannel

    def process(self) -> None:
        if self.method not in (b"GET", b"HEAD"):
            self.answer(405, b"", "text/plain")
            return
        data = self.channel.factory.machines.of(self.client_address)
        path = self.path.decode("latin-1")
        found = None if data is None else answer(path, data)
        kind = "application/octet-stream" if path.rstrip("/").endswith("user-data") else "text/plain"
        self.answer(404 if found is None else 200, found or b"", kind)


class PasswordSite(PublicSite):
    """CloudStack's password server for the same machines."""

    def __init__(self, reactor: Any, passwords: PasswordDirectory) -> None:
        super().__init__(reactor, PasswordChannel, PasswordRequest, tuple)  # behind no proxy
        self.passwords = passwords


class PasswordChannel(PublicChannel):
    """A machine's connection."""

    factory: PasswordSite


@provider(INonQueuedRequestFactory)
class PasswordRequest(BodilessRequest):
    """A request for a password, or the message that it is saved."""

    channel: PasswordChannel

    def process(self) -> None:
        asked = self.header(HEADER) if self.method == b"GET" else ""
        status, body = passwords.answer(asked, self.channel.factory.passwords, self.client_address)
        self.answer(status, body.encode(), "text/plain; charset=utf-8")


def main(directory: Path, listeners: Sequence[int]) -> int:
    """Serve on these listening sockets until SIGTERM or SIGINT."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    use_monotonic_clock(reactor)
    begin_logging("systemvm-guestnet", os.environ)
    sites = {
        METADATA_PORT: MetadataSite(reactor, DataDirectory(directory)),
        PASSWORD_PORT: PasswordSite(reactor, PasswordDirectory(directory)),
    }
    for listener in listeners:
        with socket.socket(fileno=os.dup(listener)) as inherited:
            port = inherited.getsockname()[1]
        PlainPort.adopt(reactor, listener, sites[port]).startListening()
        os.close(listener)
    run_until_sigint(reactor.run)
    return 0
