# SPDX-License-Identifier: Apache-2.0
"""JSON-RPC over HTTP/1.1 on a UNIX socket, for people: the command line, and plain `curl --unix-socket`.

The server's half is imported when it is asked for: the command line only calls, without twisted.web.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from systemvm.rpc.call import Events
from systemvm.rpc.local_caller import Authorize, root_and_group, root_only
from systemvm.rpc.method import MethodTable
from systemvm.rpc.unix_client import unix_call, unix_events

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort

__all__ = ["Authorize", "Events", "listen_unix", "root_and_group", "root_only", "unix_call", "unix_events"]


def listen_unix(
    reactor: Any,
    path: str | Path | int,
    methods: MethodTable,
    *,
    authorize: Authorize,
    events: Events | None = None,
    mode: int = 0o660,
) -> IListeningPort:
    """Serve `POST /rpc` and, with `events`, `GET /events?job=ID` at `path`, or on an inherited descriptor.

    A socket that a killed predecessor left behind is replaced; one that still answers is an OSError.
    """
    from systemvm.rpc.unix_server import serve

    return serve(reactor, path, methods, authorize, events, mode)
