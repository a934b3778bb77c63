# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of the host's networks: it asks `systemvm.nethelper`, which alone may change them."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.service.slowness import scaled_s
from systemvm.service.unix_calls import RefusedError, call
from systemvm.wire.role import CONTROL_PORT

_TIMEOUT_S = 40.0


class NetworkError(SystemVmError):
    """Something that the host's network could not be made to do."""

    code = FailureCode.UNAVAILABLE


class NetworkDriver:
    """Bridges, addresses, taps and firewall; every call may be repeated."""

    def __init__(
        self, helper: Path, *, vnc_ports: tuple[int, int] = (5900, 6100), control_port: int = CONTROL_PORT
    ) -> None:
        self._helper = helper
        self._vnc_ports = vnc_ports
        self._control_port = control_port
        self._consoles: set[IPv4Address | IPv6Address] = set()

    async def ensure(self) -> None:
        """The firewall, and the zones' bridges with the host's addresses on them."""
        await self._ask(
            do="ensure",
            vnc_ports=self._vnc_ports,
            control_port=self._control_port,
            consoles=sorted(map(str, self._consoles)),
        )

    async def admit_consoles(self, addresses: Iterable[IPv4Address | IPv6Address]) -> None:
        """The management addresses from which VNC may be reached, from now on."""
        wanted = set(addresses)
        if wanted != self._consoles:
            await self._ask(do="admit-consoles", addresses=sorted(map(str, wanted)))
            self._consoles = wanted

    async def create_tap(self, name: str, bridge: str, *, isolated: bool) -> int:
        """A tap's descriptor, the caller's to hand on and to close; the tap goes with its last copy."""
        [descriptor] = await self._ask(do="make-tap", name=name, bridge=bridge, isolated=isolated)
        return descriptor

    async def remove_tap(self, name: str) -> None:
        """Fine when it is not there."""
        await self._ask(do="remove-tap", name=name)

    async def _ask(self, **request: Any) -> list[int]:
        try:
            _, descriptors = await deferToThread(call, self._helper, request, timeout_s=scaled_s(_TIMEOUT_S))
        except RefusedError as error:
            raise NetworkError(error.message, error.hint) from error
        except OSError as error:
            raise NetworkError(
                f"the network helper cannot be asked at {self._helper}: {error.strerror or error}",
                "is systemvm-nethelper.socket active?",
            ) from error
        return list(descriptors)
