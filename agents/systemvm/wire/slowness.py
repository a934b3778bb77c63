# SPDX-License-Identifier: Apache-2.0
"""Why something takes long, as codes and figures: busy, hung and refused are three different reasons."""

from __future__ import annotations

import enum

from attrs import frozen

from systemvm.wire.store_failure import StoreFailure


class Delay(enum.Enum):
    """The reason of an RpcError, and of what waits: `data["reason"]` holds the value.

    `busy` passes by itself. `store_hangs`: the NFS server was reached before and does not answer calls.
    `store_refuses`: it answers, and refuses. `store_unreachable`: no connection to it can be made.
    """

    BUSY = "busy"
    STORE_HANGS = StoreFailure.HANGS.value
    STORE_REFUSES = StoreFailure.REFUSES.value
    STORE_UNREACHABLE = StoreFailure.UNREACHABLE.value

    @classmethod
    def of(cls, reason: str) -> Delay | None:
        """The member of this value; None for any other reason."""
        return cls._value2member_map_.get(reason)  # type: ignore[return-value]


@frozen
class MachineLoad:
    """How slow a machine is at present (see service/slowness.py), as its agent reports it."""

    timeout_scale: float = 1.0  # factor for timeouts of calls to it, 1 to 30
    slowdown: float = 1.0  # how many times slower than itself at its best, 1 to 30
    load_1min: float = 0.0
    steal: float = 0.0  # share of CPU time, 0 to 1
    run_queue_delay: float = 0.0  # share of the time it was runnable, 0 to 1
    is_busy: bool = False
    waiting: int = 0  # calls and jobs in its queues
