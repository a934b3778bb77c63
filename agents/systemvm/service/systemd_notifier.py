# SPDX-License-Identifier: Apache-2.0
"""Notifies systemd: ready, status, stopping, and the watchdog (sd_notify(3))."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from systemvm.service import sd_notify, slowness
from systemvm.service.sd_notify import watchdog_interval_s


class SystemdNotifier:
    """Sends datagrams to $NOTIFY_SOCKET; without one (not under systemd) nothing is sent."""

    def __init__(self, address: str | None) -> None:
        self._log = Logger(namespace="systemvm.service.systemd_notifier")
        self._address = sd_notify.socket_address(address)
        self._status = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> SystemdNotifier:
        return cls(environment.get("NOTIFY_SOCKET"))

    def ready(self) -> None:
        """Report that the unit is up: its listeners are, and it dials."""
        self._send("READY=1", f"STATUS={self._status}")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        line = " ".join(text.split())
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def send_watchdog(self, watchdog_s: float) -> None:
        """Feed the watchdog, and set how long systemd waits for the next time."""
        self._send("WATCHDOG=1", f"WATCHDOG_USEC={watchdog_s * 1e6:.0f}")

    def _send(self, *assignments: str) -> None:
        try:
            sd_notify.send(self._address, *assignments)
        except OSError as error:
            self._log.warn(
                "Cannot notify the service manager of {what}: {error}", what=assignments[0], error=error
            )


def feed_watchdog(
    clock: IReactorTime,
    notifier: SystemdNotifier,
    environment: Mapping[str, str],
    slowdown: Callable[[], float] = lambda: slowness.METER.snapshot().slowdown,
) -> LoopingCall | None:
    """Feed the watchdog from the reactor: a program whose reactor hangs is restarted.

    The timeout is multiplied by `slowdown`, how much slower than at its best the machine is: otherwise the
    watchdog would kill programs that only wait for a CPU, and their restart would slow the machine further.
    """
    interval_s = watchdog_interval_s(environment, os.getpid())
    if interval_s is None:
        return None
    loop = LoopingCall(lambda: notifier.send_watchdog(2 * interval_s * slowdown()))
    loop.clock = clock
    loop.start(interval_s)
    return loop
