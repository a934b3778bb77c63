# SPDX-License-Identifier: Apache-2.0
"""Delays of calls have codes, and each code has a text and a hint."""

from __future__ import annotations

import pytest

from systemvm.management.delay_messages import delay_of, explain, to_load
from systemvm.rpc.core.errors import BUSY, DEADLINE, INTERNAL, NOT_CONNECTED, RpcError
from systemvm.service.slowness import Slowness
from systemvm.wire.slowness import Delay, MachineLoad

_QUIET = MachineLoad(load_1min=0.1)
_SLOW = MachineLoad(timeout_scale=20, slowdown=5, load_1min=8, is_busy=True)


@pytest.mark.parametrize(
    ("error", "load", "delay"),
    [
        (RpcError.refused("store_hangs", "no answer"), _QUIET, Delay.STORE_HANGS),
        (RpcError.refused("store_hangs", "no answer"), _SLOW, Delay.STORE_HANGS),  # the guest measured it
        (RpcError.refused("store_refuses", "no"), _QUIET, Delay.STORE_REFUSES),
        (RpcError.refused("store_unreachable", "no"), _QUIET, Delay.STORE_UNREACHABLE),
        (RpcError.refused("busy", "full"), _QUIET, Delay.BUSY),
        (RpcError(BUSY, "64 calls wait"), _QUIET, Delay.BUSY),
        (RpcError(DEADLINE, "no answer"), _SLOW, Delay.BUSY),
        (RpcError(DEADLINE, "no answer"), _QUIET, None),
        (RpcError(NOT_CONNECTED, "gone"), _SLOW, None),
        (RpcError(INTERNAL, "store_hangs"), _SLOW, None),  # a message is not a code
        (RpcError.refused("mount_failed", "no"), _SLOW, None),
    ],
)
def test_failed_call_has_a_delay_code(error: RpcError, load: MachineLoad, delay: Delay | None) -> None:
    assert delay_of(error, load) is delay


@pytest.mark.parametrize("delay", Delay)
def test_every_delay_has_a_text_and_a_hint(delay: Delay) -> None:
    text = explain(delay, _SLOW)
    assert text.reason
    assert text.hint
    assert ("NFS" in text.reason) is (delay is not Delay.BUSY)


def test_text_of_busy_has_the_measured_values() -> None:
    measured = to_load(Slowness(20.0, 5.0, load_1min=8.0, steal=0.25, run_queue_delay=0.5), waiting=3)
    assert measured.is_busy
    assert explain(Delay.BUSY, measured).reason == (
        "is busy: load 8.0, 5 times slower than at its best, 25 % of its CPU time stolen, "
        "50 % of its time spent waiting for a CPU, 3 calls wait"
    )
