# SPDX-License-Identifier: Apache-2.0
"""Sentences for the codes that say why a system VM does not come up; programs compare the codes alone."""

from __future__ import annotations

from systemvm.wire.boot_failure import BootFailure

#: In words that follow "its agent …".
BOOT_FAILURE_REASONS: dict[BootFailure, str] = {
    BootFailure.NO_BOOT_ARGUMENTS: "has no boot arguments",
    BootFailure.BAD_BOOT_ARGUMENTS: "has invalid boot arguments",
    BootFailure.NIC_ABSENT: "has not the NICs of its boot arguments",
    BootFailure.COMMAND_FAILED: "could not be prepared",
    BootFailure.AGENT_CANNOT_START: "cannot start",
    BootFailure.NO_ROOT_FILE_SYSTEM: "did not boot",
    BootFailure.AWAITING_BOOT_ARGUMENTS: "has no boot arguments: it waits for them by qemu-guest-agent",
}


def describe(reason: str, message: str) -> str:
    """The sentence of a reason and of its program's own message, which is shown and never read.

    >>> describe("nic_absent", "there is no NIC eth3")
    'has not the NICs of its boot arguments: there is no NIC eth3'
    >>> describe("a-later-one", "sunspots")
    'could not be prepared, for an unknown reason: sunspots'
    """
    failure = BootFailure.of(reason)
    if failure is BootFailure.AWAITING_BOOT_ARGUMENTS:
        return BOOT_FAILURE_REASONS[failure]
    text = (
        "could not be prepared, for an unknown reason" if failure is None else BOOT_FAILURE_REASONS[failure]
    )
    return f"{text}: {message}" if message else text
