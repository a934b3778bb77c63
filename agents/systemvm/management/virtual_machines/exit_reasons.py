# SPDX-License-Identifier: Apache-2.0
"""Why a machine is not running, in words for its user."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.hypervisors.base import ExitReason


@frozen
class ExitExplanation:
    reason: str
    hint: str | None = None


_EXPLANATIONS = {
    ExitReason.GUEST_SHUTDOWN: ExitExplanation("The guest shut itself down."),
    ExitReason.GUEST_RESET: ExitExplanation("The guest reset itself.", "Start it again."),
    ExitReason.GUEST_PANIC: ExitExplanation(
        "The guest's kernel panicked.", "Its console may show why; start it again."
    ),
    ExitReason.STOPPED: ExitExplanation("It was stopped."),
    ExitReason.KILLED: ExitExplanation(
        "Its process was killed.", "Out of memory? See the host's kernel log."
    ),
    ExitReason.FAILED: ExitExplanation(
        "Its process ended with an error.", "The management daemon's log tells more."
    ),
    ExitReason.UNKNOWN: ExitExplanation(
        "It ended while no management daemon was running.", "Start it again."
    ),
}


def explain(reason: ExitReason | None) -> ExitExplanation:
    return _EXPLANATIONS[reason or ExitReason.UNKNOWN]
