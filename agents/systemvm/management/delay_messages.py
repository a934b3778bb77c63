# SPDX-License-Identifier: Apache-2.0
"""Texts for the codes of delays; programs compare only the codes."""

from __future__ import annotations

from typing import NamedTuple

from systemvm.rpc.core.errors import BUSY, DEADLINE, RpcError
from systemvm.service.slowness import Slowness
from systemvm.wire.slowness import Delay, MachineLoad


class DelayText(NamedTuple):
    """`reason` follows the name of what is delayed: "s-1-VM …", "its agent …"."""

    reason: str
    hint: str


def delay_of(error: RpcError, load: MachineLoad) -> Delay | None:
    """Return the code of a failed call to a machine with this load; None when the failure is not a delay.

    A missed deadline is attributed to a busy machine only; it proves nothing about an NFS server.
    """
    reported = Delay.of(error.reason)
    if reported is not None:
        return reported
    if error.code == BUSY or (error.code == DEADLINE and load.is_busy):
        return Delay.BUSY
    return None


def explain(delay: Delay, load: MachineLoad, server: str = "its NFS server") -> DelayText:
    """Return the text of a code with its figures."""
    match delay:
        case Delay.BUSY:
            return DelayText(
                f"is busy: {figures(load)}",
                "wait, nothing is lost; give the host or the VM more CPU if this lasts",
            )
        case Delay.STORE_HANGS:
            return DelayText(
                f"waits for its store: {server} accepts connections and does not answer",
                "check the log and the disks of the NFS server, or restart it",
            )
        case Delay.STORE_REFUSES:
            return DelayText(
                f"has no store: {server} refuses it",
                "check that the server exports the path of the store to the SSVM, with write access",
            )
        case Delay.STORE_UNREACHABLE:
            return DelayText(
                f"has no store: {server} cannot be reached",
                "check that the NFS server is up, its port 2049 is open, and the storage network leads to it",
            )


def figures(load: MachineLoad) -> str:
    """Return the measured values as text.

    >>> figures(MachineLoad(slowdown=5.0, load_1min=7.25, steal=0.2, waiting=12))
    'load 7.2, 5 times slower than at its best, 20 % of its CPU time stolen, 12 calls wait'
    """
    parts = [f"load {load.load_1min:.1f}"]
    if load.slowdown >= 1.5:
        parts.append(f"{load.slowdown:.0f} times slower than at its best")
    if load.steal >= 0.05:
        parts.append(f"{load.steal:.0%} of its CPU time stolen".replace("%", " %"))
    if load.run_queue_delay >= 0.05:
        parts.append(f"{load.run_queue_delay:.0%} of its time spent waiting for a CPU".replace("%", " %"))
    if load.waiting:
        parts.append(f"{load.waiting} calls wait")
    return ", ".join(parts)


def to_load(measured: Slowness, waiting: int = 0) -> MachineLoad:
    """Convert this process's own measurement to the type in which agents report theirs."""
    return MachineLoad(
        timeout_scale=measured.timeout_scale,
        slowdown=measured.slowdown,
        load_1min=measured.load_1min,
        steal=measured.steal,
        run_queue_delay=measured.run_queue_delay,
        is_busy=measured.is_busy,
        waiting=waiting,
    )
