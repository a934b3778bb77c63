# SPDX-License-Identifier: Apache-2.0
"""Makes, enters and removes the lab's network namespaces with all processes in them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from systemvm.lab.commands import run
from systemvm.lab.errors import LabError
from systemvm.lab.plan import EXTERNAL_SERVERS, NETWORKS, LabPlan
from systemvm.service.slowness import scaled_s

T = TypeVar("T")

RUN = Path("/run/netns")
_CLONE_NEWNET = 0x40000000


def make(plan: LabPlan) -> None:
    """Make all namespaces, the host's bridges, and a veth from each external server to its bridge.

    Raises: LabError when a command fails.
    """
    if not RUN.exists():
        # iproute2 makes it, and a mount on it, at its first use; the lab that caused that removes it again
        plan.netns_marker.parent.mkdir(parents=True, exist_ok=True)
        plan.netns_marker.touch()
    for name in plan.namespaces:
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
    host = plan.host_namespace
    for network in NETWORKS:
        run("ip", "-n", host, "link", "add", network.bridge, "type", "bridge")
        run("ip", "-n", host, "link", "set", network.bridge, "up")
    for server in EXTERNAL_SERVERS:
        theirs = plan.namespace_of(server)
        port = f"{server.name}0"
        run("ip", "-n", host, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", theirs)
        run("ip", "-n", host, "link", "set", port, "master", server.bridge, "up")
        run("ip", "-n", theirs, "addr", "add", str(server.address), "dev", "eth0")
        run("ip", "-n", theirs, "link", "set", "eth0", "up")


def exists(name: str) -> bool:
    return (RUN / name).exists()


def processes(name: str) -> list[int]:
    """Return every process in a namespace; all programs of a lab are in one of its namespaces."""
    if not exists(name):
        return []
    return [int(pid) for pid in run("ip", "netns", "pids", name).split()]


def remove(plan: LabPlan) -> None:
    """End the processes in the namespaces and delete the namespaces; do nothing if there are none.

    Raises: LabError when a process cannot be ended.
    """
    for name in plan.namespaces:
        if exists(name):
            end(lambda name=name: processes(name), grace_s=5.0)  # type: ignore[misc]
            run("ip", "netns", "del", name)
    if plan.netns_marker.exists():
        # both fail while another program has a namespace there
        if RUN.exists() and not any(RUN.iterdir()) and _succeeds("umount", str(RUN)):
            RUN.rmdir()
        plan.netns_marker.unlink()


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, timeout=scaled_s(30.0), check=False).returncode == 0


def end(pids: Callable[[], Iterable[int]], *, grace_s: float) -> None:
    """Send SIGTERM, after `grace_s` SIGKILL, and wait until all processes have ended.

    Raises: LabError when one does not end.
    """
    for signal_number, timeout_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, scaled_s(30.0))):
        descriptors = _signalled(pids(), signal_number)
        try:
            left = _wait(descriptors, timeout_s)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        if not left and not list(pids()):
            return
    raise LabError(f"cannot end processes {list(pids())}")


def _signalled(pids: Iterable[int], signal_number: signal.Signals) -> list[int]:
    descriptors = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            descriptors.append(descriptor)
            signal.pidfd_send_signal(descriptor, signal_number)
    return descriptors


def _wait(descriptors: list[int], timeout_s: float) -> bool:
    """Wait for the processes and return whether one is left."""
    waiting = select.poll()
    for descriptor in descriptors:
        waiting.register(descriptor, select.POLLIN)
    left = set(descriptors)
    deadline = time.monotonic() + timeout_s
    while left and (remaining := deadline - time.monotonic()) > 0:
        for descriptor, _ in waiting.poll(remaining * 1000):
            waiting.unregister(descriptor)
            left.discard(descriptor)
    return bool(left)


def enter(name: str) -> list[str]:
    """Return what comes before a command line for a namespace, without other mounts (`ip netns exec`)."""
    return ["nsenter", f"--net={RUN / name}", "--"]


def inside(name: str, function: Callable[[], T]) -> T:
    """Call a function in a namespace, in a new thread, because a namespace belongs to a thread."""
    results: list[T] = []
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            with (RUN / name).open() as namespace:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"cannot enter namespace {name}")
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=enter, name=f"in-{name}", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def listens(name: str, address: str, port: int) -> bool:
    """Return whether a program in the namespace accepts connections at the address."""

    def connect() -> bool:
        try:
            socket.create_connection((address, port), 2).close()
        except OSError:
            return False
        return True

    return inside(name, connect)
