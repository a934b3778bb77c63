# SPDX-License-Identifier: Apache-2.0
"""Texts for users about why a machine is not running, or does not go on."""

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
        "The guest's kernel panicked.", "See its console for the reason, then start it again."
    ),
    ExitReason.STOPPED: ExitExplanation("It was stopped."),
    ExitReason.KILLED: ExitExplanation(
        "Its process was killed.", "Check the host's kernel log for a lack of memory."
    ),
    ExitReason.FAILED: ExitExplanation(
        "Its process ended with an error.", "See the log of the management daemon."
    ),
    ExitReason.UNKNOWN: ExitExplanation(
        "It ended while no management daemon was running.", "Start it again."
    ),
}

START_INTERRUPTED = ExitExplanation(
    "Its start was interrupted: the management daemon was restarted.", "Start it again."
)

DISK_FULL = ExitExplanation(
    "It waits for room on its storage: a write to its disk found none.",
    "Make room there: it goes on by itself, and has lost nothing.",
)


def explain(reason: ExitReason | None) -> ExitExplanation:
    return _EXPLANATIONS[reason or ExitReason.UNKNOWN]
