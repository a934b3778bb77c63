# SPDX-License-Identifier: Apache-2.0
"""The host's side of a single guest, inside its network namespace: a daemon double and a time server.

usage: control_side.py AUTHORITY_DIRECTORY CONSOLE_ORIGIN

Each event is one line of output: `up NAME`, `signed NAME`, `console ORIGIN`, `time ADDRESS`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import trustme
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol

from benchmark.tiny_daemon import TinyDaemon
from systemvm.management.pki.control import ControlAuthority
from systemvm.rpc.core.method import Call
from systemvm.wire import agent
from systemvm.wire.console import CONSOLE_SETUP, ConsoleSetup
from systemvm.wire.role import Role

_TO_1900_S = 2_208_988_800


def report(*fields: str) -> None:
    sys.stdout.write(" ".join(fields) + "\n")
    sys.stdout.flush()


class DaemonDouble(TinyDaemon):
    """Answers hello, signs certificates, and sets up a CPVM's console."""

    origin = ""

    async def _hello(self, call: Call, hello: agent.Hello) -> agent.Welcome:
        if call.caller.role == Role.CPVM.value and call.peer is not None:
            self._reactor.callLater(0, lambda: Deferred.fromCoroutine(self._set_up(call.peer)))
        return await super()._hello(call, hello)

    async def _sign(self, call: Call, request: agent.SigningRequest) -> agent.SignedCertificate:
        signed = await super()._sign(call, request)
        self._reactor.callLater(1, report, "signed", call.caller.name)
        return signed

    async def _set_up(self, peer: Any) -> None:
        host = self.origin.split("//")[1].rpartition(":")[0].strip("[]")
        leaf = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert(host, key_type=trustme.KeyType.ECDSA)
        chain = "".join(blob.bytes().decode() for blob in leaf.cert_chain_pems)
        setup = ConsoleSetup(self.origin, chain, leaf.private_key_pem.bytes().decode())
        await peer.call(CONSOLE_SETUP, setup, deadline_s=60)
        report("console", self.origin)


class NtpDouble(DatagramProtocol):
    """A server of stratum 2 (RFC 5905) with this machine's time."""

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        now = int((time.time() + _TO_1900_S) * 2**32).to_bytes(8, "big")
        head = bytes([0b00_100_100, 2, 6, 0xEC]) + bytes(8) + b"\xc0\x00\x02\x01"
        if self.transport is not None:
            self.transport.write(head + now + datagram[40:48] + now + now, addr)
        report("time", addr[0])


def main() -> None:
    any_reactor: Any = reactor
    daemon = DaemonDouble(
        any_reactor, ControlAuthority.open(Path(sys.argv[1])), lambda name: report("up", name)
    )
    daemon.origin = sys.argv[2]
    any_reactor.listenUDP(123, NtpDouble(), interface="10.11.0.1")
    daemon.start("169.254.0.1").addCallback(lambda _: report("listening"))
    any_reactor.run()


if __name__ == "__main__":
    main()
