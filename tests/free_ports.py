# SPDX-License-Identifier: Apache-2.0
"""Free ports of loopback, so that several clouds, of one checkout or of two, can run at the same time."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from pathlib import Path

from systemvm.lab.plan import LabPlan

#: The first port that the kernel gives to connections and to port 0, which could take one before it is used.
_FIRST_GIVEN = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
#: Browsers open no page on this one (Fetch Standard, "port blocking").
_BLOCKED_BY_BROWSERS = 10_080
_PORTS = [port for port in range(10_000, max(_FIRST_GIVEN, 20_000)) if port != _BLOCKED_BY_BROWSERS]


def free_ports(count: int) -> list[int]:
    """Return different ports that are free now; parallel runs hardly ever choose the same."""
    with ExitStack() as held:
        found: list[int] = []
        for port in random.sample(_PORTS, len(_PORTS)):
            if len(found) == count:
                return found
            try:
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            found.append(port)
    raise AssertionError("no port is free")


def plan_with_free_ports(root: Path, build: Path) -> LabPlan:
    return LabPlan(root, build, *free_ports(3))
