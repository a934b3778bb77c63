# SPDX-License-Identifier: Apache-2.0
"""What systemd is told: ready, status, stopping, and that the reactor still turns (sd_notify(3))."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from systemvm.service import sd_notify, slowness
from systemvm.service.sd_notify import watchdog_interval_s


class SystemdNotifier:
    """Datagrams to $NOTIFY_SOCKET; without one (not under systemd) nothing is sent."""

    def __init__(self, address: str | None) -> None:
        self._log = Logger(namespace="systemvm.service.systemd_notifier")
        self._address = sd_notify.socket_address(address)
        self._status = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> SystemdNotifier:
        return cls(environment.get("NOTIFY_SOCKET"))

    def ready(self) -> None:
        """The unit is up: its listeners are, and it is dialling."""
        self._send("READY=1", f"STATUS={self._status}")

    def status(self, text: str) -> None:
        """One line for people, in `systemctl status`."""
        line = " ".join(text.split())
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def send_watchdog(self, watchdog_s: float) -> None:
        """A sign of life, and how long the manager is to wait for the next one (sd_notify(3))."""
        self._send("WATCHDOG=1", f"WATCHDOG_USEC={watchdog_s * 1e6:.0f}")

    def _send(self, *assignments: str) -> None:
        try:
            sd_notify.send(self._address, *assignments)
        except OSError as error:
            self._log.warn(
                "Cannot tell the service manager {what}: {error}", what=assignments[0], error=error
            )


def feed_watchdog(
    clock: IReactorTime,
    notifier: SystemdNotifier,
    environment: Mapping[str, str],
    slowdown: Callable[[], float] = lambda: slowness.METER.snapshot().slowdown,
) -> LoopingCall | None:
    """Send signs of life from the reactor: one that hangs sends none and is replaced.

    A machine that is `slowdown` times slower than at its best is given as much more time: its watchdog would
    else end what only waits for a CPU, and the restart would make the machine slower still.
    """
    interval_s = watchdog_interval_s(environment, os.getpid())
    if interval_s is None:
        return None
    loop = LoopingCall(lambda: notifier.send_watchdog(2 * interval_s * slowdown()))
    loop.clock = clock
    loop.start(interval_s)
    return loop
