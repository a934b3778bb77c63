# SPDX-License-Identifier: Apache-2.0
"""The TCP socket at which QEMU offers a machine's serial port; QEMU inherits it.

QEMU serves one client, and the guest's output waits for it. The kernel therefore drops a client that does not
respond, or does not read, so that neither a dead console proxy keeps the port nor a hung one the guest.
"""

from __future__ import annotations

import errno
import secrets
import socket

from systemvm.management.hypervisors.errors import HypervisorError

#: A client that does not acknowledge or take what was sent to it is dropped after this time.
UNRESPONSIVE_S = 30
_PROBE_AFTER_S = 15
_PROBE_EVERY_S = 5


def listen(address: str, allowed: range, *, taken: int | None = None) -> socket.socket:
    """Listen at a random free port; connections inherit the socket's options.

    Raises: HypervisorError when no port of the range can be bound.
    """
    ports = [port for port in allowed if port != taken]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    while ports:
        port = ports.pop(secrets.randbelow(len(ports)))
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_AFTER_S)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_EVERY_S)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNRESPONSIVE_S)
            listener.bind((address, port))
            listener.listen(4)
        except OSError as e:
            listener.close()
            if e.errno in (errno.EADDRINUSE, errno.EACCES):
                continue
            raise HypervisorError(f"serial port cannot listen on {address}: {e.strerror}") from e
        return listener
    raise HypervisorError(
        f"all VNC ports on {address} are in use: {allowed[0]} to {allowed[-1]}",
        "stop a VM, or enlarge the range of ports in managementd.yaml",
    )
