# SPDX-License-Identifier: Apache-2.0
"""What a host's API lists: the addresses of consoles, and its VMs."""

from __future__ import annotations

import enum

from attrs import field, frozen

MAX_NAME_LENGTH = 255


class HostPower(enum.Enum):
    """Power state of a VM on such a host."""

    ON = "on"
    OFF = "off"
    SUSPENDED = "suspended"


@frozen
class HostMachine:
    """A VM, by the reference that its host keeps for it: XAPI's UUID or vCenter's identifier."""

    reference: str
    name: str
    power: HostPower
    vcpus: int = 0
    memory_mib: int = 0


@frozen
class HostInventory:
    """One listing. `addresses` are those of all hosts behind the API, by name or number."""

    machines: list[HostMachine]
    addresses: list[str] = field(factory=list)
    version: str = ""


def shown_name(text: object, reference: str) -> str:
    """Return a name that a page can show: a host's is any text.

    >>> shown_name("web\\n1", "vm-3")
    'web 1'
    """
    name = "".join(each if each.isprintable() else " " for each in str(text)[:MAX_NAME_LENGTH]).strip()
    return name or reference


def whole_number(value: object) -> int:
    """Return a number that a host has sent, as a number or as text; 0 when it is none."""
    try:
        number = int(str(value)[:20])
    except ValueError:
        return 0
    return number if 0 <= number < 1 << 50 else 0
