# SPDX-License-Identifier: Apache-2.0
"""The service manager's end of sd_notify: when a program is ready, and what it is busy with until then."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from systemvm.lab.errors import LabError

_POLL_S = 0.5


class Readiness:
    """A datagram socket for one program's NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        # a UNIX address has room for 107 bytes, and roots may lie deep: our descriptor is a short cut
        self._directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.address = f"/proc/{os.getpid()}/fd/{self._directory}/{path.name}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
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
        os.close(self._directory)
        self._path.unlink(missing_ok=True)
