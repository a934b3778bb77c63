# SPDX-License-Identifier: Apache-2.0
"""Makes the host's networks as they are to be, in the network namespace that the daemon runs in."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import shutil
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError
from twisted.logger import Logger

from systemvm.management import child_process
from systemvm.management.asyncio_bridge import in_asyncio
from systemvm.management.networks import firewall
from systemvm.management.networks.bridges import HostNetwork

_TIMEOUT_S = 20.0


class NetworkError(Exception):
    """Something that the host's network could not be made to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} ({hint})" if hint else message)
        self.message = message
        self.hint = hint


class NetworkDriver:
    """Bridges, addresses, taps and firewall; every call may be repeated."""

    _log = Logger()

    def __init__(
        self,
        networks: Sequence[HostNetwork],
        *,
        vnc_ports: tuple[int, int] = (5900, 6100),
        proc: Path = Path("/proc/sys/net"),
    ) -> None:
        self._networks = list(networks)
        self._vnc_ports = vnc_ports
        self._proc = proc
        self._consoles: set[IPv4Address | IPv6Address] = set()

    async def ensure(self) -> None:
        """Firewall first, so that no bridge is ever open; then bridges and the host's addresses on them."""
        await self._nft(firewall.ruleset(self._networks, self._consoles, vnc_ports=self._vnc_ports))
        for network in self._networks:
            await in_asyncio(asyncio.wait_for(self._ensure_bridge(network), _TIMEOUT_S))

    async def remove(self) -> None:
        """Take away the bridges and the firewall; taps go with the machines that use them."""
        for network in self._networks:
            await in_asyncio(asyncio.wait_for(self._remove_link(network.bridge), _TIMEOUT_S))
        await self._nft(firewall.removal())

    async def admit_consoles(self, addresses: Iterable[IPv4Address | IPv6Address]) -> None:
        """The management addresses from which VNC may be reached, from now on."""
        wanted = set(addresses)
        if wanted != self._consoles:
            await self._nft(firewall.admit_consoles(wanted))
            self._consoles = wanted

    async def create_tap(self, name: str, bridge: str, *, isolated: bool) -> None:
        try:
            await in_asyncio(asyncio.wait_for(self._create_tap(name, bridge, isolated), _TIMEOUT_S))
        except NetlinkError as e:
            raise NetworkError(f"tap {name} on {bridge} could not be made: {e}") from e

    async def remove_tap(self, name: str) -> None:
        await in_asyncio(asyncio.wait_for(self._remove_link(name), _TIMEOUT_S))

    # ---- asyncio's side: netlink ----------------------------------------------------------------------

    async def _ensure_bridge(self, network: HostNetwork) -> None:
        async with AsyncIPRoute() as netlink:
            index = await _index(netlink, network.bridge)
            if index is None:
                with contextlib.suppress(NetlinkError):  # someone else may have made it meanwhile
                    await netlink.link("add", ifname=network.bridge, kind="bridge")
                index = await _index(netlink, network.bridge)
                if index is None:
                    raise NetworkError(f"bridge {network.bridge} could not be made", "is this process root?")
                self._log.info("bridge {bridge} made", bridge=network.bridge)
            # an address of its own: by default a bridge takes its ports' lowest, and changes it with them
            await netlink.link("set", index=index, address=_mac(network.bridge), state="up")
            for interface in network.addresses:
                try:
                    await netlink.addr(
                        "add", index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen
                    )
                except NetlinkError as e:
                    if e.code != errno.EEXIST:
                        raise NetworkError(f"{interface} could not be added to {network.bridge}: {e}") from e
            if network.uplink is not None:
                uplink = await _index(netlink, network.uplink)
                if uplink is None:
                    raise NetworkError(f"there is no interface {network.uplink} for bridge {network.bridge}")
                await netlink.link("set", index=uplink, master=index, state="up")
        # strict about the bridge's own addresses in ARP too
        for key, value in (("arp_ignore", "1"), ("arp_announce", "2"), ("rp_filter", "1")):
            (self._proc / "ipv4" / "conf" / network.bridge / key).write_text(value)

    async def _create_tap(self, name: str, bridge: str, isolated: bool) -> None:
        async with AsyncIPRoute() as netlink:
            master = await _index(netlink, bridge)
            if master is None:
                raise NetworkError(f"there is no bridge {bridge} for tap {name}", "check the zone's labels")
            stale = await _index(netlink, name)
            if stale is not None:
                await netlink.link("del", index=stale)
            await netlink.link("add", ifname=name, kind="tuntap", mode="tap")
            index = await _index(netlink, name)
            if index is None:
                raise NetworkError(f"tap {name} vanished while it was made")
            await netlink.link("set", index=index, master=master)
            if isolated:
                await netlink.brport("set", index=index, isolated=1)
            # up last: not a frame passes before the port is isolated
            await netlink.link("set", index=index, state="up")

    async def _remove_link(self, name: str) -> None:
        async with AsyncIPRoute() as netlink:
            index = await _index(netlink, name)
            if index is not None:
                with contextlib.suppress(NetlinkError):
                    await netlink.link("del", index=index)

    @staticmethod
    async def _nft(script: str) -> None:
        if shutil.which("nft") is None:
            raise NetworkError("nft is not installed", "install Debian's nftables")
        try:
            await child_process.run(["nft", "-f", "-"], stdin=script.encode(), timeout_s=_TIMEOUT_S)
        except child_process.CommandError as e:
            raise NetworkError(f"the firewall could not be set: {e}") from e


def _mac(bridge: str) -> str:
    """A locally administered address that is always the same for a bridge of this name."""
    digest = hashlib.sha256(bridge.encode()).digest()
    return "0a:" + digest[:5].hex(":")


async def _index(netlink: AsyncIPRoute, name: str) -> int | None:
    found = await netlink.link_lookup(ifname=name)
    return found[0] if found else None
