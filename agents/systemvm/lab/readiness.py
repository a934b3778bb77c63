# SPDX-License-Identifier: Apache-2.0
"""The service manager's end of sd_notify: when a program is ready, and what it is busy with until then."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from systemvm.lab.errors import LabError

_POLL_S = 0.5


class Readiness:
    """A datagram socket for one program's NOTIFY_SOCKET, made in the network namespace that it runs in."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # a name that the kernel chooses, in no directory: whatever user is told it can reach it, in this
        # network namespace and in no other
        self._socket.bind("")
        self.address = "@" + self._socket.getsockname()[1:].decode()
        self._socket.settimeout(_POLL_S)

    def wait(
        self, title: str, running: Callable[[], bool], status: Callable[[str], None], timeout_s: float
    ) -> bool:
        """True when it says that it is ready, False when it ended; LabError after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                message = self._socket.recv(4096).decode(errors="replace")
            except TimeoutError:
                if not running():
                    return False
                continue
            values = dict(line.partition("=")[::2] for line in message.splitlines())
            if "STATUS" in values:
                status(values["STATUS"])
            if values.get("READY") == "1":
                return True
        raise LabError(f"{title} is not ready after {timeout_s:g} s")

    def close(self) -> None:
        self._socket.close()
