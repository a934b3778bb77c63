# SPDX-License-Identifier: Apache-2.0
"""A double of the management daemon for `make bench-console`: the real RPC over mutual TLS, tokens in memory.

usage: console_daemon.py FOLDER AGENT TARGET_PORT ORIGIN

FOLDER has `public.pem` and `public.key`, the console's certificate. Writes the first identity of the agent
AGENT to `identity.pem` there and prints the number of its port; prints `ready` when the agent is set up. A
token is `RUN-NUMBER` and works once; where RUN begins with `f`, the session's policy has the CPVM read every
message of both ends, and where it begins with `c`, the session is recorded, and its pieces are received and
forgotten. Ends when standard input ends.
"""

from __future__ import annotations

import re
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "agents")]

from twisted.internet import epollreactor  # noqa: E402

epollreactor.install()

from attrs import evolve  # noqa: E402
from twisted.internet import reactor  # noqa: E402
from twisted.internet.defer import Deferred  # noqa: E402

from systemvm.management.pki.authority import CertificateAuthority  # noqa: E402
from systemvm.management.pki.control import ControlAuthority  # noqa: E402
from systemvm.rpc.core.errors import RpcError  # noqa: E402
from systemvm.rpc.core.method import Call, MethodTable  # noqa: E402
from systemvm.rpc.core.peer import Peer  # noqa: E402
from systemvm.rpc.stream.listener import listen  # noqa: E402
from systemvm.wire import agent, console, protocol  # noqa: E402
from systemvm.wire.acknowledgement import Acknowledgement  # noqa: E402
from systemvm.wire.console import ConsoleRefusal  # noqa: E402
from systemvm.wire.recording import (  # noqa: E402
    CONSOLE_RECORD,
    CONSOLE_RECORDED,
    CONSOLE_RECORDER,
    RecordedEnd,
    RecordedPiece,
    RecordingOrder,
)
from systemvm.wire.role import Role  # noqa: E402

MAX_SESSIONS = 5000
_TOKEN = re.compile(r"[a-z0-9]+-[0-9]+")
#: What a recorded session costs beside its recording: the VNC server's messages are followed, too.
FILTERED = console.ConsolePolicy(clipboard_from_guest=False)
_CPVM = frozenset({Role.CPVM.value})


class DaemonDouble:
    """The methods that a CPVM calls; every session is one of the same screen."""

    reactor: Any = reactor  # the one that this module has chosen

    def __init__(
        self, setup: console.ConsoleSetup, target: console.ConsoleTarget, on_ready: Callable[[], None]
    ) -> None:
        self.authority = ControlAuthority(CertificateAuthority.create("bench"))
        self.methods = MethodTable("daemon", "0")
        self._setup = setup
        self._target = target
        self._on_ready = on_ready
        self._spent: set[str] = set()
        add = self.methods.add
        add(agent.HELLO, self._hello, params=agent.Hello, result=agent.Welcome, roles=_CPVM)
        add(agent.PING, self._ping, params=agent.Ping, result=agent.Pong, roles=_CPVM)
        add(agent.SIGN, self._sign, params=agent.SigningRequest, result=agent.SignedCertificate, roles=_CPVM)
        for name, handler, params, result in (
            (console.CONSOLE_AUTHORIZE, self._authorize, console.ConsoleAuthorize, console.ConsoleSession),
            (console.CONSOLE_TARGET, self._find_target, console.ConsoleTargetRequest, console.ConsoleTarget),
            (console.CONSOLE_CLOSED, self._acknowledge, console.ConsoleClosed, Acknowledgement),
            (console.CONSOLE_LOAD, self._acknowledge, console.ConsoleLoad, Acknowledgement),
            (CONSOLE_RECORDER, self._acknowledge, None, Acknowledgement),
            (CONSOLE_RECORD, self._acknowledge, RecordedPiece, Acknowledgement),
            (CONSOLE_RECORDED, self._acknowledge, RecordedEnd, Acknowledgement),
        ):
            add(name, cast(Any, handler), params=params, result=result, roles=_CPVM)

    async def start(self, port: int) -> int:
        """Listen on loopback, and return the port."""
        identity = self.authority.daemon_identity("bench")
        listening: Any = await listen(
            reactor,
            lambda: identity,
            self.methods,
            interface="127.0.0.1",
            port=port,
            known=lambda caller: None,
            on_connected=lambda peer: None,
            on_lost=lambda peer, why: None,
        )
        found: int = listening.getHost().port
        return found

    async def _hello(self, call: Call, hello: agent.Hello) -> agent.Welcome:
        Deferred.fromCoroutine(self._set_up(cast(Peer, call.peer)))
        return agent.Welcome(protocol.CURRENT, "host-1", time.time(), 5.0)

    async def _set_up(self, peer: Peer) -> None:
        await peer.call(console.CONSOLE_SETUP, self._setup, result=Acknowledgement)
        limits = console.SessionLimits(max_sessions=MAX_SESSIONS)
        await peer.call(console.CONSOLE_CONFIGURE, limits, result=Acknowledgement)
        self._on_ready()

    async def _ping(self, call: Call, ping: agent.Ping) -> agent.Pong:
        return agent.Pong(ping.sent_unix_s, time.time())

    async def _sign(self, call: Call, request: agent.SigningRequest) -> agent.SignedCertificate:
        certificate_pem = self.authority.sign(request.csr_pem, call.caller.name, Role(call.caller.role))
        return agent.SignedCertificate(certificate_pem, self.authority.ca_pem.decode())

    async def _authorize(self, call: Call, request: console.ConsoleAuthorize) -> console.ConsoleSession:
        token = request.token
        if not _TOKEN.fullmatch(token):
            raise RpcError.refused(ConsoleRefusal.TOKEN_UNKNOWN, "unknown token", "use one of the benchmark")
        if token in self._spent:
            raise RpcError.refused(ConsoleRefusal.TOKEN_USED, "token was used", "use another one")
        self._spent.add(token)
        target = self._target if request.with_target else None
        if target is not None and token.startswith("c"):
            target = evolve(target, recording=RecordingOrder(str(uuid.uuid4()), "bench", 1 << 40))
        policy = FILTERED if token.startswith("f") else console.UNRESTRICTED
        return console.ConsoleSession(f"session-{token}", "vm-1", "bench", 600.0, policy, target=target)

    async def _find_target(self, call: Call, request: console.ConsoleTargetRequest) -> console.ConsoleTarget:
        return self._target

    async def _acknowledge(self, call: Call, params: Any) -> Acknowledgement:
        return Acknowledgement()


def main() -> None:
    folder, name, target_port, origin = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    certificate_pem = (folder / "public.pem").read_text()
    setup = console.ConsoleSetup(origin, certificate_pem, (folder / "public.key").read_text())
    target = console.ConsoleTarget("127.0.0.1", target_port, None)
    daemon = DaemonDouble(setup, target, lambda: print("ready", flush=True))
    (folder / "identity.pem").write_bytes(daemon.authority.bootstrap(name, Role.CPVM).to_pem_bundle())

    async def start() -> None:
        print(await daemon.start(0), flush=True)

    def end_with_input() -> None:
        sys.stdin.read()
        cast(Any, reactor).callFromThread(cast(Any, reactor).stop)

    threading.Thread(target=end_with_input, daemon=True).start()
    Deferred.fromCoroutine(start())
    cast(Any, reactor).run()


if __name__ == "__main__":
    main()
