# SPDX-License-Identifier: Apache-2.0
"""The driver of guest networks' services: it calls `systemvm.guestnet`, which runs dnsmasq."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

from systemvm.host.guest_services import GuestBridge, GuestData, encode, encode_data
from systemvm.management.network_helper import NetworkError, NoHelperError
from systemvm.service.slowness import scaled_s
from systemvm.service.unix_calls import RefusedError, call_with_content

_TIMEOUT_S = 60.0


class GuestServicesDriver:
    """DHCP, DNS and metadata on this host's guest bridges; every call is idempotent."""

    def __init__(self, helper: Path) -> None:
        self._helper = helper

    async def serve(self, bridges: Sequence[GuestBridge]) -> dict[str, NetworkError]:
        """Have exactly these bridges served; return why some are not.

        Raises: NetworkError when none is.
        """
        answer = await self._call({"do": "serve"}, encode(bridges))
        failed = answer["failed"].items()
        return {bridge: NetworkError(found["why"], found["hint"]) for bridge, found in failed}

    async def stop(self, bridge: str) -> None:
        """End the services of a bridge, until the next `serve`. Raises: NetworkError when they do not end."""
        await self._call({"do": "stop", "bridge": bridge}, b"")

    async def put_data(self, bridge: str, address: IPv4Address, mac: str, data: GuestData) -> None:
        """Have the metadata service answer the machine at this address with its data.

        Raises: NetworkError when it is not kept.
        """
        request = {"do": "put-data", "bridge": bridge, "address": str(address), "mac": mac}
        await self._call(request, encode_data(data))

    async def taken_passwords(self) -> list[str]:
        """Return the ids of passwords that machines have taken, until their data has another or none.

        Raises: NetworkError when the services do not answer.
        """
        answer = await self._call({"do": "taken-passwords"}, b"")
        return [str(each) for each in answer["taken"]]

    async def _call(self, request: dict[str, Any], content: bytes) -> dict[str, Any]:
        try:
            return await deferToThread(self._send, request, content)
        except RefusedError as error:
            raise NetworkError(error.message, error.hint) from error
        except OSError as error:
            raise NoHelperError(
                f"services of guest networks do not answer at {self._helper}: {error.strerror or error}",
                "check that systemvm-guestnet.socket is active",
            ) from error

    def _send(self, request: dict[str, Any], content: bytes) -> dict[str, Any]:
        answer, _ = call_with_content(self._helper, request, content, timeout_s=scaled_s(_TIMEOUT_S))
        return answer
