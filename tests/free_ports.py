# SPDX-License-Identifier: Apache-2.0
"""Free ports of loopback, so that several clouds, of one checkout or of two, can run at the same time."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

from systemvm.lab.plan import LabPlan


def free_ports(count: int) -> list[int]:
    """Return different ports that the kernel says are free now."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def plan_with_free_ports(root: Path, build: Path) -> LabPlan:
    return LabPlan(root, build, *free_ports(3))
