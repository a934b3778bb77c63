# SPDX-License-Identifier: Apache-2.0
"""The driver of guest networks' services: it calls `systemvm.guestnet`, which runs dnsmasq."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from twisted.internet.threads import deferToThread

from systemvm.host.guest_services import GuestBridge, encode
from systemvm.management.network_helper import NetworkError
from systemvm.service.slowness import scaled_s
from systemvm.service.unix_calls import RefusedError, call

_TIMEOUT_S = 60.0


class GuestServicesDriver:
    """DHCP and DNS on this host's guest bridges; every call is idempotent."""

    def __init__(self, helper: Path) -> None:
        self._helper = helper

    async def serve(self, bridges: Sequence[GuestBridge]) -> dict[str, NetworkError]:
        """Have exactly these bridges served; return why some are not.

        Raises: NetworkError when none is.
        """
        try:
            return await deferToThread(self._serve, encode(bridges))
        except RefusedError as error:
            raise NetworkError(error.message, error.hint) from error
        except OSError as error:
            raise NetworkError(
                f"services of guest networks do not answer at {self._helper}: {error.strerror or error}",
                "check that systemvm-guestnet.socket is active",
            ) from error

    def _serve(self, content: bytes) -> dict[str, NetworkError]:
        # a file: it is longer than a packet when there are many machines
        descriptor = os.memfd_create("guest-bridges", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            answer, _ = call(self._helper, {"do": "serve"}, [descriptor], timeout_s=scaled_s(_TIMEOUT_S))
        failed = answer["failed"].items()
        return {bridge: NetworkError(found["why"], found["hint"]) for bridge, found in failed}
