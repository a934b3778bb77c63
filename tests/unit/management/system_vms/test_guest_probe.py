# SPDX-License-Identifier: Apache-2.0
"""Each known failure that a guest agent reports gets its exact reason and hint."""

from __future__ import annotations

import pytest

from guest_output import (
    ADDRESS,
    FROM_INSIDE,
    NAME,
    NOW_S,
    PORT,
    guest,
)
from systemvm.management.boot_failure_messages import BOOT_FAILURE_REASONS
from systemvm.management.control.agent import AgentStatus
from systemvm.management.state.status import AgentState
from systemvm.management.system_vms import guest_probe
from systemvm.wire.boot_failure import BootFailure


@pytest.mark.parametrize("case", FROM_INSIDE)
def test_probe_explains_the_fault(case: str) -> None:
    changes, reason, hint = FROM_INSIDE[case]
    seen = guest_probe.parse(guest(**changes), NOW_S)
    assert guest_probe.explain(seen, NAME, ADDRESS, PORT) == AgentStatus(AgentState.ALERT, reason, hint)


def test_probe_of_a_healthy_guest_has_no_reason() -> None:
    assert guest_probe.explain(guest_probe.parse(guest(), NOW_S + 3), NAME, ADDRESS, PORT) is None


@pytest.mark.parametrize(
    "output",
    ["", "=== clock\n", "=== dial\nx\n--- ", "\x00" * 100, "=== preinit\nActiveState=failed\n--- 0\n"],
)
def test_truncated_output_is_parsed(output: str) -> None:
    guest_probe.explain(guest_probe.parse(output, NOW_S), NAME, ADDRESS, PORT)


def test_every_boot_failure_has_a_text() -> None:
    codes = [code for code in range(2, 256) if BootFailure.of_exit_code(code) is not None]
    of_preinit = [BootFailure.of_exit_code(code) for code in codes]
    assert len(of_preinit) == 5
    assert set(of_preinit) < set(BOOT_FAILURE_REASONS) == set(BootFailure)
