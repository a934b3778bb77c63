# SPDX-License-Identifier: Apache-2.0
"""The driver of the host's networks: it calls `systemvm.nethelper`, which has the privileges."""

from __future__ import annotations

import json
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

from systemvm.host.guest_filter import BoundGuest
from systemvm.host.guest_vlans import GuestLink
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.service.slowness import scaled_s
from systemvm.service.unix_calls import RefusedError, call, call_with_content
from systemvm.wire.role import CONTROL_PORT

_TIMEOUT_S = 40.0


class NetworkError(SystemVmError):
    """A change of the host's network that failed."""

    code = FailureCode.UNAVAILABLE


class NoHelperError(NetworkError):
    """A helper that does not listen."""


class NetworkDriver:
    """Bridges, addresses, taps and firewall; every call is idempotent."""

    def __init__(
        self, helper: Path, *, vnc_ports: tuple[int, int] = (5900, 6100), control_port: int = CONTROL_PORT
    ) -> None:
        self._helper = helper
        self._vnc_ports = vnc_ports
        self._control_port = control_port
        self._consoles: set[IPv4Address | IPv6Address] = set()

    async def ensure(self) -> dict[str, NetworkError]:
        """Set up the firewall and this host's bridges; return why some bridges cannot be."""
        answer, _ = await self._call(
            do="ensure",
            vnc_ports=self._vnc_ports,
            control_port=self._control_port,
            consoles=sorted(map(str, self._consoles)),
        )
        # a helper of an earlier release makes all bridges or none, and answers nothing about them
        return {bridge: NetworkError(*why) for bridge, why in answer.get("unusable", {}).items()}

    async def admit_consoles(self, addresses: Iterable[IPv4Address | IPv6Address]) -> None:
        """Open VNC servers to these management addresses only."""
        admitted = set(addresses)
        if admitted != self._consoles:
            await self._call(do="admit-consoles", addresses=sorted(map(str, admitted)))
            self._consoles = admitted

    async def create_tap(self, name: str, bridge: str, *, isolated: bool, vlan: int | None = None) -> int:
        """Create a tap and return its descriptor, which the caller closes; the tap ends with its last
        copy.
        """
        wanted: dict[str, Any] = {"name": name, "bridge": bridge, "isolated": isolated, "vlan": vlan}
        _, [descriptor] = await self._call(do="make-tap", **wanted)
        return descriptor

    async def remove_tap(self, name: str) -> None:
        """Remove a tap; does nothing when there is none."""
        await self._call(do="remove-tap", name=name)

    async def bind_guests(self, guests: Iterable[BoundGuest], l2_ports: Iterable[str] = ()) -> None:
        """Have the ports of exactly these machines send from their own MAC and address only.

        Those on L2 networks send what they want.
        """
        bound = [(guest.port, guest.mac, str(guest.address)) for guest in guests]
        content = {"guests": bound, "l2_ports": [*l2_ports]}
        await self._call(json.dumps(content).encode(), do="bind-guests")

    async def make_guest_links(self, links: Iterable[GuestLink]) -> dict[str, NetworkError]:
        """Have exactly these guest VLANs on this host; return why some cannot be, by their bridges."""
        content = [(link.bridge, link.vlan, link.address and str(link.address)) for link in links]
        answer, _ = await self._call(json.dumps(content).encode(), do="guest-links")
        failed = answer["failed"].items()
        return {bridge: NetworkError(found["why"], found["hint"]) for bridge, found in failed}

    async def _call(self, content: bytes | None = None, **request: Any) -> tuple[dict[str, Any], list[int]]:
        timeout_s = scaled_s(_TIMEOUT_S)
        try:
            if content is not None:
                return await deferToThread(
                    call_with_content, self._helper, request, content, timeout_s=timeout_s
                )
            return await deferToThread(call, self._helper, request, timeout_s=timeout_s)
        except RefusedError as error:
            raise NetworkError(error.message, error.hint) from error
        except OSError as error:
            raise NoHelperError(
                f"network helper does not answer at {self._helper}: {error.strerror or error}",
                "check that systemvm-nethelper.socket is active",
            ) from error
