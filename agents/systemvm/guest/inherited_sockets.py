# SPDX-License-Identifier: Apache-2.0
"""Sockets from the service manager, by the names in their units (sd_listen_fds(3)).

They are taken before Twisted is imported, because its endpoints module reads the same variables.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

_FIRST = 3


def take_sockets(environment: MutableMapping[str, str], pid: int) -> dict[str, int]:
    """Return the descriptors by name, close-on-exec, and remove the variables, so that no child uses them."""
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
