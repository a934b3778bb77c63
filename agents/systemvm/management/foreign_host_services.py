# SPDX-License-Identifier: Apache-2.0
"""Makes the service for hosts that no daemon drives, with threads of its own for their slow answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from threading import Thread
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from systemvm.management.consoles.proxy_settings import ProxySettingSender
from systemvm.management.foreign_hosts.connections import HostConnections
from systemvm.management.foreign_hosts.service import ForeignHosts, HostSettings
from systemvm.management.foundation import Foundation
from systemvm.rpc.stream.transport import Reactor

#: A host that hangs holds one for its deadline; it must not hold those of the daemon's other work.
MAX_THREADS = 16


class _HostThread(Thread):
    """A thread that the end of the daemon does not wait for, whatever its host does."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options, daemon=True)


@frozen
class ForeignHostServices:
    """The service and its threads."""

    hosts: ForeignHosts
    addresses: ProxySettingSender
    threads: ThreadPool

    def start(self) -> None:
        self.threads.start()
        self.hosts.start()

    def stop(self) -> None:
        """Stop; nobody waits for the end of a request that has begun."""
        self.hosts.stop()
        self.threads.adjustPoolsize(0, 0)


def make_foreign_hosts(
    reactor: Reactor,
    foundation: Foundation,
    addresses: ProxySettingSender,
    end_consoles: Callable[[int], Awaitable[None]],
) -> ForeignHostServices:
    threads = ThreadPool(0, MAX_THREADS, "hosts")
    threads.threadFactory = _HostThread

    def in_thread(work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(reactor, threads, work, *arguments)

    settings = HostSettings(
        foundation.configuration.management.supervision.host_refresh_s, end_consoles, addresses.send_all
    )
    hosts = ForeignHosts(reactor, foundation.database, foundation.seal, HostConnections(in_thread), settings)
    return ForeignHostServices(hosts, addresses, threads)
