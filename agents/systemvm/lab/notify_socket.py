# SPDX-License-Identifier: Apache-2.0
"""The service manager's end of sd_notify(3): receives readiness and status of a program."""

from __future__ import annotations

import socket

from systemvm.lab import activity
from systemvm.lab.children import ChildProcess
from systemvm.lab.reporting import Step
from systemvm.lab.waiting import HANG_S, EndedError, WaitState, wait_for

_POLL_S = 0.5


class NotifySocket:
    """A datagram socket for one program's NOTIFY_SOCKET, made in the network namespace that it runs in."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # an abstract name chosen by the kernel: any user can reach it, but only in this network namespace
        self._socket.bind("")
        self.address = "@" + self._socket.getsockname()[1:].decode()
        self._socket.settimeout(_POLL_S)
        self.is_ready = False
        self.status = ""  # the program's last STATUS=

    def wait(self, child: ChildProcess, step: Step, *, hang_s: float | None = HANG_S) -> None:
        """Wait until the program notifies READY=1.

        Raises: EndedError when it ends, StalledError when it hangs.
        """

        def look() -> WaitState[bool]:
            running = child.running  # checked before its last message is read
            self._receive()
            if self.is_ready:
                return WaitState("", result=True)
            if not running:
                raise EndedError(
                    f"{child.title} ended during its start\n{child.last_lines()}", f"see {child.log}"
                )
            return WaitState(
                self.status or "its first status",
                progress=(self.status, activity.written_bytes(child.log)),
                activity=child.cpu_ticks(),
            )

        wait_for(look, step, child.last_lines, hang_s=hang_s, every_s=0.0)

    def _receive(self) -> None:
        """Receive one message, waiting for at most _POLL_S."""
        try:
            message = self._socket.recv(4096).decode(errors="replace")
        except TimeoutError:
            return
        values = dict(line.partition("=")[::2] for line in message.splitlines())
        self.status = values.get("STATUS", self.status)
        self.is_ready = self.is_ready or values.get("READY") == "1"

    def close(self) -> None:
        self._socket.close()
