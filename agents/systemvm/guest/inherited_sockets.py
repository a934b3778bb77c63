# SPDX-License-Identifier: Apache-2.0
"""Sockets that the service manager opened for us, by the names that their units give them (sd_listen_fds(3)).

Read before Twisted is imported: its endpoints module takes the same variables for itself.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

_FIRST = 3


def take_sockets(environment: MutableMapping[str, str], pid: int) -> dict[str, int]:
    """Descriptors by name, closed on exec; the variables go, so that no child believes them its own."""
    count = environment.pop("LISTEN_FDS", "")
    owner = environment.pop("LISTEN_PID", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if owner != str(pid) or not count.isdigit():
        return {}
    taken: dict[str, int] = {}
    for index in range(int(count)):
        descriptor = _FIRST + index
        os.set_inheritable(descriptor, False)
        taken[names[index] if index < len(names) and names[index] else f"socket-{index}"] = descriptor
    return taken
