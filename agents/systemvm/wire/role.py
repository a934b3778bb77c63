# SPDX-License-Identifier: Apache-2.0
"""The parties of the control channel and the names that their certificates carry."""

from __future__ import annotations

import enum

#: The name every daemon's certificate carries, and the only one agents ask for, so that a VM adopted by
#: another host connects unchanged.
MANAGEMENT_SAN = "management.systemvm"

#: Where the daemon listens for agents: the host's end of the link-local bridge `cloud0`, CloudStack's port.
CONTROL_PORT = 8250


class Role(enum.Enum):
    """A party of the control channel."""

    SSVM = "ssvm"
    CPVM = "cpvm"
    MANAGEMENT = "management"

    def san(self, name: str) -> str:
        """The DNS name in the certificate of `name`, lower case: names are compared without case.

        >>> Role.SSVM.san("s-1-VM")
        's-1-vm.ssvm.systemvm'
        """
        return f"{name}.{self.value}.systemvm".lower()

    @property
    def boot_type(self) -> str:
        """CloudStack's `type=` boot argument."""
        return {Role.SSVM: "secstorage", Role.CPVM: "consoleproxy", Role.MANAGEMENT: "management"}[self]

    @property
    def system_vm_type(self) -> str:
        """CloudStack's `systemvmtype` in API answers."""
        return "secondarystoragevm" if self is Role.SSVM else self.boot_type

    @classmethod
    def from_boot_type(cls, boot_type: str) -> Role:
        """The role of a `type=` boot argument; ValueError for any other text."""
        for role in cls:
            if role.boot_type == boot_type:
                return role
        raise ValueError(f"unknown system VM type {boot_type!r}; known: secstorage, consoleproxy")
