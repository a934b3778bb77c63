# SPDX-License-Identifier: Apache-2.0
"""Texts for the codes of failed boots of system VMs; programs compare only the codes."""

from __future__ import annotations

from systemvm.wire.boot_failure import BootFailure

#: Each text follows "its agent …".
BOOT_FAILURE_REASONS: dict[BootFailure, str] = {
    BootFailure.NO_BOOT_ARGUMENTS: "has no boot arguments",
    BootFailure.BAD_BOOT_ARGUMENTS: "has invalid boot arguments",
    BootFailure.NIC_ABSENT: "does not have the NICs of its boot arguments",
    BootFailure.COMMAND_FAILED: "cannot be prepared",
    BootFailure.AGENT_CANNOT_START: "cannot start",
    BootFailure.NO_ROOT_FILE_SYSTEM: "did not boot",
    BootFailure.AWAITING_BOOT_ARGUMENTS: "has no boot arguments: it waits for them by qemu-guest-agent",
}


def describe(reason: str, message: str) -> str:
    """Return the text of a reason with the message of its program, which is quoted and never parsed.

    >>> describe("nic_absent", "there is no NIC eth3")
    'does not have the NICs of its boot arguments: there is no NIC eth3'
    >>> describe("a-later-one", "sunspots")
    'cannot be prepared, for an unknown reason: sunspots'
    """
    failure = BootFailure.of(reason)
    if failure is BootFailure.AWAITING_BOOT_ARGUMENTS:
        return BOOT_FAILURE_REASONS[failure]
    text = "cannot be prepared, for an unknown reason" if failure is None else BOOT_FAILURE_REASONS[failure]
    return f"{text}: {message}" if message else text
