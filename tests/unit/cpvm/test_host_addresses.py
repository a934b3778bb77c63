# SPDX-License-Identifier: Apache-2.0
"""console.hosts in the agent: one call of the root helper for each change, and its refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.address import UNIXAddress
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.protocol import Factory, Protocol

from present import present
from systemvm.cpvm.host_addresses import HostAddresses
from systemvm.guest.paths import GuestPaths
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, Caller
from systemvm.wire.call_refusal import CallRefusal
from systemvm.wire.console import ConsoleHosts

CALL = Call(Caller("host-1", "management"), "request", None)


class Helper(Factory):
    """The socket of the helper; `orders` are those that came, `answer` is what it says."""

    def __init__(self) -> None:
        self.orders: list[Any] = []
        self.answer = b'{"error": ""}\n'

    def buildProtocol(self, addr: Any) -> Protocol:
        helper = self

        class Connection(Protocol):
            def dataReceived(self, data: bytes) -> None:
                helper.orders.append(json.loads(data))
                present(self.transport).write(helper.answer)
                present(self.transport).loseConnection()

        return Connection()


@pytest.fixture
def paths(tmp_path: Path) -> GuestPaths:
    found = GuestPaths(tmp_path)
    found.nftables.parent.mkdir(parents=True)
    found.nftables.write_text("rules")
    found.run.mkdir(parents=True)
    return found


@pytest_twisted.ensureDeferred
async def test_the_helper_is_called_once_for_each_change(paths: GuestPaths) -> None:
    helper = Helper()
    port = await UNIXServerEndpoint(reactor, str(paths.console_hosts_socket)).listen(helper)
    assert isinstance(port.getHost(), UNIXAddress)
    addresses = HostAddresses(reactor, paths)
    for wanted in (["10.0.0.2", "10.0.0.1"], ["10.0.0.1", "10.0.0.2"], [], []):
        await addresses.set(CALL, ConsoleHosts(wanted))
    assert helper.orders == [["10.0.0.1", "10.0.0.2"], []]
    helper.answer = b'{"error": "no"}\n'
    for answer in (b'{"error": "no"}\n', b"", b"[]", b"x" * 100_000):
        helper.answer = answer
        with pytest.raises(RpcError) as refused:
            await addresses.set(CALL, ConsoleHosts(["10.0.0.1"]))
        assert refused.value.reason == CallRefusal.FIREWALL_UNCHANGED.value
    helper.answer = b'{"error": ""}\n'
    await addresses.set(CALL, ConsoleHosts(["10.0.0.1"]))
    assert helper.orders[-1] == ["10.0.0.1"], "what failed is tried again"
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_without_a_helper_it_is_refused_and_without_rules_nothing_is_to_do(paths: GuestPaths) -> None:
    addresses = HostAddresses(reactor, paths)
    with pytest.raises(RpcError) as refused:
        await addresses.set(CALL, ConsoleHosts(["10.0.0.1"]))
    assert refused.value.reason == CallRefusal.FIREWALL_UNCHANGED.value
    paths.nftables.unlink()
    await addresses.set(CALL, ConsoleHosts(["10.0.0.1"]))
