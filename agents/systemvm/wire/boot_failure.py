# SPDX-License-Identifier: Apache-2.0
"""Why a system VM does not come up: the reasons of its initial root, of `systemvm-preinit` and of its agent.

A program logs its reason in the journal field REASON and ends with its exit code. A serial console has no
fields: there the line holds `REASON=value`, and the next one `HINT=text` when there is a hint.
"""

from __future__ import annotations

import enum


class BootFailure(enum.Enum):
    """Stable reasons; each that ends a program has an exit code of its own."""

    NO_BOOT_ARGUMENTS = "no_boot_arguments"
    BAD_BOOT_ARGUMENTS = "bad_boot_arguments"
    NIC_ABSENT = "nic_absent"
    COMMAND_FAILED = "command_failed"
    AGENT_CANNOT_START = "agent_cannot_start"
    NO_ROOT_FILE_SYSTEM = "no_root_file_system"  # of the initial root, which halts the machine
    AWAITING_BOOT_ARGUMENTS = "awaiting_boot_arguments"  # qemu-guest-agent can still bring them

    @property
    def exit_code(self) -> int:
        """The exit code of `systemvm-preinit` and `systemvm-agent`; 1 for a reason that ends neither."""
        return _EXIT_CODES.get(self, 1)

    @classmethod
    def of_exit_code(cls, exit_code: int) -> BootFailure | None:
        """The reason behind an exit code; None for one that no reason has.

        >>> BootFailure.of_exit_code(12), BootFailure.of_exit_code(1)
        (<BootFailure.NIC_ABSENT: 'nic_absent'>, None)
        """
        return next((reason for reason, code in _EXIT_CODES.items() if code == exit_code), None)

    @classmethod
    def of(cls, reason: str) -> BootFailure | None:
        """The member of this value; None for a reason that this release does not know."""
        return next((member for member in cls if member.value == reason), None)


_EXIT_CODES = {
    BootFailure.NO_BOOT_ARGUMENTS: 10,
    BootFailure.BAD_BOOT_ARGUMENTS: 11,
    BootFailure.NIC_ABSENT: 12,
    BootFailure.COMMAND_FAILED: 13,
    BootFailure.AGENT_CANNOT_START: 14,
}
