# SPDX-License-Identifier: Apache-2.0
"""A child process: agent and daemon on one epoll reactor, without executable memory."""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path
from typing import Any

from twisted.internet import epollreactor

epollreactor.install()

from twisted.internet import reactor as default_reactor  # noqa: E402
from twisted.internet.defer import Deferred  # noqa: E402
from twisted.internet.task import react  # noqa: E402

from systemvm.rpc.core.method import Call, MethodTable  # noqa: E402
from systemvm.rpc.core.peer import Peer  # noqa: E402
from systemvm.rpc.stream.dialer import Dialer  # noqa: E402
from systemvm.rpc.stream.listener import listen  # noqa: E402
from systemvm.rpc.tls.identity import Identity  # noqa: E402
from systemvm.wire.agent import Ping, Pong  # noqa: E402

PR_SET_MDWE = 65  # what MemoryDenyWriteExecute= sets, since Linux 6.3
MDWE_UNSUPPORTED = 77
IDENTITIES = [Identity.from_pem_bundle(Path(path).read_bytes()) for path in sys.argv[1:3]]


async def ping(call: Call, params: Ping) -> Pong:
    return Pong(params.sent_unix_s, 2.0)


async def main(reactor: Any) -> None:
    agent, daemon = IDENTITIES
    methods = MethodTable("daemon", "1")
    methods.add("ping", ping, params=Ping, result=Pong, roles=frozenset({"ssvm"}))
    port: Any = await listen(
        reactor,
        lambda: daemon,
        methods,
        interface="127.0.0.1",
        port=0,
        known=lambda caller: None,
        on_connected=lambda peer: None,
        on_lost=lambda peer, why: None,
    )
    greeted: Deferred[Any] = Deferred()

    async def hello(peer: Peer) -> None:
        greeted.callback(await peer.call("ping", Ping(1.0), result=Pong))

    address = ("127.0.0.1", port.getHost().port)
    dialer = Dialer(reactor, lambda: agent, MethodTable("agent", "1"), [address], hello)
    dialer.start()
    sys.stdout.write(f"{await greeted.addTimeout(200, reactor)}\n")
    await dialer.stop()
    await port.stopListening()


if __name__ == "__main__":
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_MDWE, 1, 0, 0, 0) != 0:
        sys.exit(MDWE_UNSUPPORTED)
    try:
        mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        sys.exit("memory that is writable and executable was not refused")
    except PermissionError:
        sys.stdout.write(f"{type(default_reactor).__name__}\n")
    react(main)
