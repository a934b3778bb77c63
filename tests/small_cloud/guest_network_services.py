# SPDX-License-Identifier: Apache-2.0
"""The root helpers of guest networks: DHCP, DNS, metadata, filter and links."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address

from systemvm.host.guest_filter import BoundGuest
from systemvm.host.guest_services import GuestBridge, GuestData
from systemvm.host.guest_vlans import GuestLink
from systemvm.management.network_helper import NetworkError


class FakeGuestServices:
    """DHCP, DNS, metadata and a filter that remember what they serve, and fail where a test wants it."""

    def __init__(self) -> None:
        self.served: list[Sequence[GuestBridge]] = []
        self.bound: list[BoundGuest] = []
        self.l2_ports: list[str] = []
        self.data: dict[IPv4Address, GuestData] = {}
        self.failed: dict[str, NetworkError] = {}
        self.taken: list[str] = []
        self.taken_error: NetworkError | None = None
        self.links: list[GuestLink] = []
        self.unlinked: dict[str, NetworkError] = {}
        self.link_error: NetworkError | None = None
        self.stopped: list[str] = []
        self.error: NetworkError | None = None
        self.filter_error: NetworkError | None = None

    async def serve(self, bridges: Sequence[GuestBridge]) -> dict[str, NetworkError]:
        if self.error is not None:
            raise self.error
        self.served.append(bridges)
        return self.failed

    async def bind_guests(self, guests: Iterable[BoundGuest], l2_ports: Iterable[str] = ()) -> None:
        if self.filter_error is not None:
            raise self.filter_error
        self.bound, self.l2_ports = list(guests), list(l2_ports)

    async def make_guest_links(self, links: Iterable[GuestLink]) -> dict[str, NetworkError]:
        if self.link_error is not None:
            raise self.link_error
        self.links = list(links)
        return self.unlinked

    async def stop(self, bridge: str) -> None:
        self.stopped.append(bridge)

    async def put_data(self, bridge: str, address: IPv4Address, mac: str, data: GuestData) -> None:
        if self.error is not None:
            raise self.error
        if bridge == "":
            raise NetworkError("bridge  carries no guest traffic of this host", "")
        self.data[address] = data

    async def taken_passwords(self) -> list[str]:
        if self.taken_error is not None:
            raise self.taken_error
        return self.taken
