# SPDX-License-Identifier: Apache-2.0
"""Why a QEMU process ended, by its last words on QMP and its exit code."""

from __future__ import annotations

from systemvm.management.hypervisors.base import ExitReason


def exit_reason(asked: bool, said: list[tuple[str, str]], code: int | None, *, was_heard: bool) -> ExitReason:
    """From what QEMU said at its end, else from how the process ended."""
    if asked:
        return ExitReason.STOPPED
    if any(event == "GUEST_PANICKED" for event, _ in said):
        return ExitReason.GUEST_PANIC
    for event, reason in said:
        if event == "SHUTDOWN":
            return {
                "guest-shutdown": ExitReason.GUEST_SHUTDOWN,
                "guest-reset": ExitReason.GUEST_RESET,
                "guest-panic": ExitReason.GUEST_PANIC,
                "host-qmp-quit": ExitReason.STOPPED,
            }.get(reason, ExitReason.KILLED)
    if code is not None and code > 0:
        return ExitReason.FAILED
    # QEMU announces every end of its own; one without a word was made from outside
    return ExitReason.KILLED if code is not None or was_heard else ExitReason.UNKNOWN
