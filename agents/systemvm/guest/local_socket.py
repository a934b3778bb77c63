# SPDX-License-Identifier: Apache-2.0
"""The agent's UNIX socket: its methods for root in the guest (`curl --unix-socket … /rpc`)."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IListeningPort

from systemvm.guest.paths import GuestPaths
from systemvm.rpc.core.method import MethodTable
from systemvm.rpc.http.unix import listen_unix, root_only


def listen(reactor: Any, paths: GuestPaths, methods: MethodTable) -> IListeningPort:
    """Listen on /run/systemvm/agent.sock; mode and SO_PEERCRED admit only root."""
    return listen_unix(reactor, paths.agent_socket, methods, authorize=root_only, mode=0o600)
