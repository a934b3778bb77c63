# SPDX-License-Identifier: Apache-2.0
"""sd_notify(3) for processes without Twisted."""

from __future__ import annotations

import socket
from collections.abc import Mapping


def socket_address(text: str | None) -> str | None:
    """Return $NOTIFY_SOCKET as an address of bind(2): `@` begins a name in the abstract namespace."""
    return "\0" + text[1:] if text and text.startswith("@") else text or None


def send(address: str | None, *assignments: str) -> None:
    """Send assignments such as READY=1; without an address nothing is sent.

    Raises: OSError when they cannot be sent.
    """
    if address is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.setblocking(False)  # a stuck service manager must not block its services
        channel.sendto("\n".join(assignments).encode(), address)


def watchdog_interval_s(environment: Mapping[str, str], pid: int) -> float | None:
    """Return half of the watchdog timeout in seconds; None without a watchdog."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    watched = environment.get("WATCHDOG_PID", str(pid))
    if not microseconds.isdigit() or int(microseconds) == 0 or watched != str(pid):
        return None
    return int(microseconds) / 2_000_000
