# SPDX-License-Identifier: Apache-2.0
"""console.hosts: the hosts beside the cloud's own whose consoles this CPVM may reach.

The firewall limits the agent's user to them. A root helper changes it; without rules there is none to open.
"""

from __future__ import annotations

import json
from contextlib import suppress

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from systemvm.guest.paths import GuestPaths
from systemvm.rpc.core.call import Call
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.stream.transport import Reactor
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.call_refusal import CallRefusal
from systemvm.wire.console import ConsoleHosts

_MAX_ANSWER_BYTES = 4096


class HostAddresses:
    """Calls the helper once for each change; calls follow one another."""

    def __init__(self, reactor: Reactor, paths: GuestPaths) -> None:
        self._reactor = reactor
        self._paths = paths
        self._lock = DeferredLock()
        self._opened: list[str] | None = None  # unknown: an earlier agent can have opened some

    async def set(self, call: Call, hosts: ConsoleHosts) -> Acknowledgement:
        """Open the firewall for exactly these addresses.

        Raises: RpcError when it cannot be changed, and stays as it was.
        """
        await self._lock.run(lambda: Deferred.fromCoroutine(self._apply(hosts.addresses)))
        return Acknowledgement()

    async def _apply(self, addresses: list[str]) -> None:
        wanted = sorted(set(addresses))
        if wanted == self._opened or not self._paths.nftables.exists():
            return
        problem = await self._ask(wanted)
        if problem:
            raise _refused(f"firewall is not changed: {problem}")
        self._opened = wanted

    async def _ask(self, addresses: list[str]) -> str:
        endpoint = UNIXClientEndpoint(self._reactor, str(self._paths.console_hosts_socket))
        answer = _Answer()
        try:
            await connectProtocol(endpoint, answer)
        except ConnectError:
            raise _refused("helper for the firewall cannot be reached") from None
        answer.ask(json.dumps(addresses).encode() + b"\n")
        with suppress(ValueError):
            decoded = json.loads(await answer.ended)
            if isinstance(decoded, dict) and isinstance(decoded.get("error"), str):
                return str(decoded["error"])
        return "its helper does not answer"


def _refused(message: str) -> RpcError:
    hint = "run \"journalctl -u 'systemvm-console-hosts@*'\" in the VM; an older image must be replaced"
    return RpcError.refused(CallRefusal.FIREWALL_UNCHANGED, message, hint)


class _Answer(Protocol):
    """Collects the helper's answer until it ends."""

    def __init__(self) -> None:
        self.ended: Deferred[bytes] = Deferred()
        self._received = b""

    def ask(self, order: bytes) -> None:
        if self.transport is not None:
            self.transport.write(order)

    def dataReceived(self, data: bytes) -> None:
        self._received = (self._received + data)[:_MAX_ANSWER_BYTES]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.ended.called:
            self.ended.callback(self._received)
