# SPDX-License-Identifier: Apache-2.0
"""Connections to an S3 server: which addresses are allowed, and how long it is tried again."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import reactor

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.address_policy import Address
from systemvm.ssvm.fetch.cancellation import Cancellation
from systemvm.ssvm.fetch.retry import RetryBudget
from systemvm.ssvm.fetch.store_connector import StoreConnector
from systemvm.ssvm.limits import DEFAULT
from systemvm.ssvm.s3.endpoint import S3Endpoint
from systemvm.wire.transfer_failure import TransferFailure

ENDPOINT = S3Endpoint(True, "s3.example.test", 443, "images")
REFUSED = TransferError(TransferFailure.CONNECTION_REFUSED, "refused")


class Network:
    """Name servers and servers; `answers` are the servers' in order, False refuses the connection."""

    def __init__(self, addresses: list[str], answers: list[bool]) -> None:
        self.addresses = addresses
        self.answers = answers
        self.opened: list[str] = []
        self.clock_s = 0.0
        self.sockets: list[socket.socket] = []

    def look_up(self, host: str, port: int) -> list[Address]:
        assert (host, port) == (ENDPOINT.host, ENDPOINT.port)
        return [ip_address(address) for address in self.addresses]

    def open(self, address: Address, port: int, timeout_s: float) -> socket.socket:
        self.opened.append(str(address))
        self.clock_s += timeout_s
        if not self.answers.pop(0):
            raise REFUSED
        ours, theirs = socket.socketpair()
        self.sockets += [ours, theirs]
        return ours

    def connector(self) -> StoreConnector:
        limits = evolve(DEFAULT, first_byte_budget_s=35.0, refused_budget_s=35.0)
        budget = RetryBudget(limits, lambda: self.clock_s, lambda high: 0.0)
        return StoreConnector(
            reactor, ENDPOINT, limits, budget, Cancellation(), lookup=self.look_up, open_=self.open
        )


@pytest.fixture
def networks() -> Iterator[list[Network]]:
    made: list[Network] = []
    yield made
    for network in made:
        for each in network.sockets:
            each.close()


@pytest.mark.parametrize("address", ["10.11.0.5", "203.0.113.9", "fd00::9"])
@pytest_twisted.ensureDeferred
async def test_an_endpoint_can_be_inside_and_outside_of_the_zone(
    networks: list[Network], address: str
) -> None:
    network = Network([address], [True])
    networks.append(network)
    assert isinstance(await network.connector().connect(), socket.socket)
    assert network.opened == [address]


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.0.1", "::1", "::ffff:169.254.169.254", "0.0.0.0"])
@pytest_twisted.ensureDeferred
async def test_a_name_with_a_reserved_address_is_denied_as_a_whole(address: str) -> None:
    network = Network(["203.0.113.9", address], [True])
    with pytest.raises(TransferError) as failed:
        await network.connector().reconnect(REFUSED)
    assert failed.value.code is TransferFailure.URL_DENIED
    assert network.opened == []


@pytest_twisted.ensureDeferred
async def test_the_next_address_is_tried(networks: list[Network]) -> None:
    network = Network(["203.0.113.9", "203.0.113.10"], [False, True])
    networks.append(network)
    await network.connector().connect()
    assert network.opened == ["203.0.113.9", "203.0.113.10"]


@pytest_twisted.ensureDeferred
async def test_a_server_is_tried_again_until_the_budget_is_used_up(networks: list[Network]) -> None:
    network = Network(["203.0.113.9"], [False, False, True])
    networks.append(network)
    await network.connector().reconnect(REFUSED)
    assert len(network.opened) == 3
    lost = Network(["203.0.113.9"], [False] * 9)
    with pytest.raises(TransferError) as failed:
        await lost.connector().reconnect(REFUSED)
    assert failed.value.code is TransferFailure.CONNECTION_REFUSED
    assert len(lost.opened) == 4  # each attempt takes 10 s of 35 s
