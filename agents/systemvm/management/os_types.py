# SPDX-License-Identifier: Apache-2.0
"""Guest operating systems by CloudStack's names (guest_os and guest_os_category of its schema, 4.22).

CloudStack creates their UUIDs in each installation; here they are derived from the names, so that they are
the same everywhere. The type of a machine has no effect on how it runs.
"""

from __future__ import annotations

import functools
import uuid

from attrs import frozen

_NAMESPACE = uuid.UUID("2b0f4b53-6a4c-4e0b-8d0a-6a2d0d3f9b54")


@functools.cache
def _uuid_of(name: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, name))


@frozen
class OsCategory:
    name: str

    @property
    def id(self) -> str:
        return _uuid_of(f"category {self.name}")


@frozen
class OsType:
    """One operating system; `name` is CloudStack's description."""

    name: str
    category: OsCategory

    @property
    def id(self) -> str:
        return _uuid_of(f"type {self.name}")


def _both(*names: str) -> tuple[str, ...]:
    return tuple(f"{name} ({bits}-bit)" for name in names for bits in (32, 64))


_NAMES: dict[str, tuple[str, ...]] = {
    "CentOS": (
        *_both(*(f"CentOS 5.{minor}" for minor in range(11))),
        *_both(*(f"CentOS 6.{minor}" for minor in range(11))),
        *("CentOS 7", "CentOS 8", "Other CentOS (32-bit)", "Other CentOS (64-bit)"),
        *("Rocky Linux 8", "Rocky Linux 9", "AlmaLinux 8", "AlmaLinux 9"),
    ),
    "Debian": (
        *(f"Debian GNU/Linux {major}({bits}-bit)" for major in (6, 7) for bits in (32, 64)),
        *_both(*(f"Debian GNU/Linux {major}" for major in range(8, 13))),
    ),
    "Oracle": ("Oracle Linux 7", "Oracle Linux 8", "Oracle Linux 9"),
    "RedHat": (
        *("Red Hat Enterprise Linux 7.0", "Red Hat Enterprise Linux 8.0", "Red Hat Enterprise Linux 9.0"),
        *("Fedora Linux (32 bit)", "Fedora Linux (64 bit)"),
    ),
    "SUSE": (
        *("SUSE Linux Enterprise Server 12 (64-bit)", "SUSE Linux Enterprise Server 15 (64-bit)"),
        *("Other SUSE Linux(32-bit)", "Other SUSE Linux(64-bit)"),
    ),
    "Windows": (
        *_both("Windows 7", "Windows 8", "Windows 10"),
        *("Windows 11 (64-bit)", "Windows Server 2012 (64-bit)", "Windows Server 2012 R2 (64-bit)"),
        *("Windows Server 2016 (64-bit)", "Windows Server 2019 (64-bit)", "Windows Server 2022 (64-bit)"),
        *("DOS", "Windows PV"),
    ),
    "Other": (
        *("None", *_both("Other", "Other Linux", "Other PV")),
        *("Other 2.6x Linux (32-bit)", "Other 2.6x Linux (64-bit)"),
    ),
    "Unix": ("FreeBSD (32-bit)", "FreeBSD (64-bit)"),
    "Ubuntu": (
        *_both("Ubuntu 10.04", "Ubuntu 12.04", "Ubuntu 14.04"),
        *("Ubuntu 16.04 (64-bit)", "Ubuntu 18.04 LTS", "Ubuntu 20.04 LTS", "Ubuntu 22.04 LTS"),
        *("Ubuntu 24.04 LTS", *_both("Other Ubuntu")),
    ),
}

CATEGORIES = tuple(OsCategory(name) for name in _NAMES)
OS_TYPES = tuple(
    OsType(name, category) for category in CATEGORIES for name in dict.fromkeys(_NAMES[category.name])
)
_BY_ID = {one.id: one for one in OS_TYPES}
_BY_NAME = {one.name: one for one in OS_TYPES}

#: The type of templates that name none.
DEFAULT = _BY_NAME["Other (64-bit)"]


def find(uuid: str) -> OsType | None:
    return _BY_ID.get(uuid)


def of_row(stored: str | None) -> OsType | None:
    """Return the type of a template's row: by its UUID, or by its name in old rows; None for other text."""
    if stored is None:
        return DEFAULT
    return _BY_ID.get(stored) or _BY_NAME.get(stored)


def stored_in_category(category_uuid: str) -> frozenset[str | None]:
    """Return all texts of rows whose type `of_row` finds in a category; None stands for no text."""
    types = [one for one in OS_TYPES if one.category.id == category_uuid]
    texts: list[str | None] = [text for one in types for text in (one.id, one.name)]
    return frozenset([*texts, None] if DEFAULT in types else texts)
