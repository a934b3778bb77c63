# SPDX-License-Identifier: Apache-2.0
"""Many simulated agents in one child process, each with its own key and connection; and an HTTPS server.

They dial, send hello and pings, and answer calls like the appliances' agent, but without a guest's work.

usage: control_agents.py PORT DIRECTORY      DIRECTORY contains NAME.ROLE.pem of each agent, and https.pem
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet import epollreactor

epollreactor.install()

import msgspec  # noqa: E402
from OpenSSL import SSL, crypto  # noqa: E402
from twisted.internet import reactor as default_reactor  # noqa: E402
from twisted.internet.defer import Deferred  # noqa: E402
from twisted.internet.ssl import ContextFactory  # noqa: E402
from twisted.internet.task import LoopingCall  # noqa: E402
from twisted.web.resource import Resource  # noqa: E402
from twisted.web.server import Request, Site  # noqa: E402

from systemvm.rpc.core.errors import RpcError  # noqa: E402
from systemvm.rpc.core.method import Call, MethodTable  # noqa: E402
from systemvm.rpc.core.peer import Peer  # noqa: E402
from systemvm.rpc.stream.dialer import Dialer  # noqa: E402
from systemvm.rpc.tls.identity import Identity  # noqa: E402
from systemvm.wire import agent as wire  # noqa: E402
from systemvm.wire import protocol  # noqa: E402
from systemvm.wire.acknowledgement import Acknowledgement  # noqa: E402
from systemvm.wire.console import CONSOLE_SETUP, ConsoleSetup  # noqa: E402
from systemvm.wire.storage import STORAGE_SETUP, STORAGE_STATS, Store, StoreStats  # noqa: E402

reactor: Any = default_reactor
DAEMON = frozenset({"management"})
HEALTH = wire.Health(1.0, 0.1, 512 << 20, 256 << 20, 40 << 20, 1 << 30, [], 0)


class BenchAgent:
    """The agent's side of the control channel, without a guest."""

    def __init__(self, port: int, path: Path) -> None:
        self._name, self._role = path.stem.rsplit(".", 1)
        identity = Identity.from_pem_bundle(path.read_bytes())
        methods = MethodTable("agent", "1")
        methods.add(wire.HEALTH, self._health, params=None, result=wire.Health, roles=DAEMON)
        for name in (STORAGE_SETUP, STORAGE_STATS):
            methods.add(name, self._store, params=Store, result=StoreStats, roles=DAEMON)
        methods.add(CONSOLE_SETUP, self._console, params=ConsoleSetup, result=Acknowledgement, roles=DAEMON)
        self._ping: LoopingCall | None = None
        self._dialer = Dialer(reactor, lambda: identity, methods, [("127.0.0.1", port)], self._send_hello)
        self._dialer.start()

    async def _send_hello(self, peer: Peer) -> None:
        hello = wire.Hello(
            protocol.OLDEST, self._name, self._role, "0.1.0", "0.1.0", "0" * 64, "boot", time.time(),
            ["ssh-ed25519 " + "A" * 68],
        )  # fmt: skip
        welcome: wire.Welcome = await peer.call(wire.HELLO, hello, result=wire.Welcome)
        if self._ping is not None and self._ping.running:
            self._ping.stop()
        self._ping = LoopingCall(lambda: Deferred.fromCoroutine(self._send_ping(peer)))
        self._ping.start(welcome.ping_interval_s, now=False)

    async def _send_ping(self, peer: Peer) -> None:
        try:
            await peer.call(wire.PING, wire.Ping(time.time()), result=wire.Pong)
        except RpcError as error:
            peer.close(f"ping: {error}")

    async def _health(self, call: Call, params: None) -> wire.Health:
        return HEALTH

    async def _store(self, call: Call, store: Store) -> StoreStats:
        return StoreStats(1 << 40, 1 << 30)

    async def _console(self, call: Call, setup: ConsoleSetup) -> Acknowledgement:
        return Acknowledgement()


class HttpsRpc(Resource):
    """Answers the same request over HTTP."""

    isLeaf = True

    def render_POST(self, request: Request) -> bytes:
        body: Any = request.content
        request_body = msgspec.json.decode(body.read())
        if request_body["method"] != wire.HEALTH:
            request.setResponseCode(404)
            return b""
        request.setHeader(b"content-type", b"application/json")
        return msgspec.json.encode({"jsonrpc": "2.0", "id": request_body["id"], "result": HEALTH})


class MutualTls(ContextFactory):
    def __init__(self, identity: Identity) -> None:
        context = self._context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
        pem = crypto.FILETYPE_PEM
        context.use_privatekey(crypto.load_privatekey(pem, identity.private_key_pem))
        context.use_certificate(crypto.load_certificate(pem, identity.certificate_pem))
        context.get_cert_store().add_cert(crypto.load_certificate(pem, identity.ca_pem))

    def getContext(self) -> SSL.Context:
        return self._context


def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port, directory = int(sys.argv[1]), Path(sys.argv[2])
    agents = [BenchAgent(port, path) for path in sorted(directory.glob("*.*.pem"))]
    site = Site(HttpsRpc())
    site.noisy = False
    tls = MutualTls(Identity.from_pem_bundle((directory / "https.pem").read_bytes()))
    listening = reactor.listenSSL(0, site, tls, interface="127.0.0.1")
    sys.stdout.write(json.dumps({"agents": len(agents), "https": listening.getHost().port}) + "\n")
    sys.stdout.flush()
    reactor.run()


if __name__ == "__main__":
    main()
