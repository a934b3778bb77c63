# SPDX-License-Identifier: Apache-2.0
"""The service manager's end of sd_notify: when a program is ready, and what it is busy with until then."""

from __future__ import annotations

import socket

from systemvm.lab import activity
from systemvm.lab.children import Child
from systemvm.lab.reporting import Step
from systemvm.lab.waiting import HANG_S, EndedError, Look, wait_for

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
        self.is_ready = False
        self.status = ""  # what the program said last that it is busy with

    def wait(self, child: Child, step: Step, *, hang_s: float | None = HANG_S) -> None:
        """Until the program says that it is ready; EndedError when it ends, StalledError when it hangs."""

        def look() -> Look[bool]:
            running = child.running  # before its last message is read
            self._receive()
            if self.is_ready:
                return Look("", result=True)
            if not running:
                raise EndedError(
                    f"{child.title} ended at its start\n{child.last_lines()}", f"its log is {child.log}"
                )
            return Look(
                self.status or "its first words",
                progress=(self.status, activity.written_bytes(child.log)),
                activity=child.cpu_ticks(),
            )

        wait_for(look, step, child.last_lines, hang_s=hang_s, every_s=0.0)

    def _receive(self) -> None:
        """Take one message, for which it waits a moment."""
        try:
            message = self._socket.recv(4096).decode(errors="replace")
        except TimeoutError:
            return
        values = dict(line.partition("=")[::2] for line in message.splitlines())
        self.status = values.get("STATUS", self.status)
        self.is_ready = self.is_ready or values.get("READY") == "1"

    def close(self) -> None:
        self._socket.close()
