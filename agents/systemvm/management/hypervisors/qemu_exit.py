# SPDX-License-Identifier: Apache-2.0
"""Determines why a QEMU process ended, from its QMP events and its exit code."""

from __future__ import annotations

from systemvm.management.hypervisors.base import ExitReason


def exit_reason(
    is_requested: bool, events: list[tuple[str, str]], code: int | None, *, had_session: bool
) -> ExitReason:
    """Return the reason by QEMU's events (event, reason), else by the exit code."""
    if is_requested:
        return ExitReason.STOPPED
    if any(event == "GUEST_PANICKED" for event, _ in events):
        return ExitReason.GUEST_PANIC
    for event, reason in events:
        if event == "SHUTDOWN":
            return {
                "guest-shutdown": ExitReason.GUEST_SHUTDOWN,
                "guest-reset": ExitReason.GUEST_RESET,
                "guest-panic": ExitReason.GUEST_PANIC,
                "host-qmp-quit": ExitReason.STOPPED,
            }.get(reason, ExitReason.KILLED)
    if code is not None and code > 0:
        return ExitReason.FAILED
    # QEMU announces every end of its own: without an event, another process killed it
    return ExitReason.KILLED if code is not None or had_session else ExitReason.UNKNOWN
