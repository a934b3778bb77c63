# SPDX-License-Identifier: Apache-2.0
"""JSON-RPC over HTTP/1.1 on a UNIX socket, for people: the command line, and plain `curl --unix-socket`.

Each half is imported on first use: the command line only calls, without twisted.web, and an agent is rarely
called here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from systemvm.rpc.core.call import EventSource
from systemvm.rpc.core.method import MethodTable
from systemvm.rpc.stream.peer_credentials import Authorize, root_and_group, root_only

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort, IProtocolFactory

    from systemvm.rpc.http.unix_client import unix_call, unix_events

__all__ = [
    "Authorize",
    "EventSource",
    "listen_unix",
    "root_and_group",
    "root_only",
    "unix_call",
    "unix_events",
]


def __getattr__(name: str) -> Any:
    """Import the client on first use: an agent only serves, without http.client."""
    if name not in ("unix_call", "unix_events"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from systemvm.rpc.http import unix_client

    return getattr(unix_client, name)


def listen_unix(
    reactor: Any,
    path: str | Path | int,
    methods: MethodTable,
    *,
    authorize: Authorize,
    events: EventSource | None = None,
    mode: int = 0o660,
) -> IListeningPort:
    """Serve `POST /rpc` and, with `events`, `GET /events?job=ID` at `path`, or on an inherited descriptor.

    A socket that a killed predecessor has left is replaced.

    Raises: OSError when another process listens there.
    """
    from systemvm.rpc.http.first_use import FirstUseFactory
    from systemvm.rpc.stream.unix_path import listen_at

    def factory() -> IProtocolFactory:
        from systemvm.rpc.http.unix_server import site

        return site(reactor, methods, authorize, events)

    return listen_at(reactor, path, FirstUseFactory(factory), mode)
