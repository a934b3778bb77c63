# SPDX-License-Identifier: Apache-2.0
"""CloudStack's metadata service: what a machine asks, and which machine it is; no I/O but small files.

A machine is known by the address that it asks from: there is no way to ask for another one's data.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

from systemvm.host.guest_services import GuestData, decode_data

VERSIONS = ("latest", "1.0")
_META_DATA, _USER_DATA = "meta-data", "user-data"


class DataDirectory:
    """The data of one bridge's machines, a file for each by its address and its MAC.

    An address can be given to another machine: it does not get the data of the one before.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def of(self, peer: str) -> GuestData | None:
        """Return the data of the machine that asks; None when there is none with this address."""
        try:
            [path] = self._directory.glob(f"{IPv4Address(peer)}_*.json")
            return decode_data(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def path(self, address: IPv4Address, mac: str) -> Path:
        return self._directory / f"{machine_name(address, mac)}.json"


def machine_name(address: IPv4Address, mac: str) -> str:
    """Return how files of a machine begin."""
    return f"{address}_{mac.replace(':', '')}"


def answer(path: str, data: GuestData) -> bytes | None:
    """Return what is at a path such as `/latest/meta-data/instance-id`; None when nothing is."""
    match path.strip("/").split("/"):
        case [version] if version in VERSIONS:
            return f"{_META_DATA}/\n{_USER_DATA}\n".encode()
        case [version, name] if version in VERSIONS and name == _META_DATA:
            return "".join(f"{key}\n" for key in data.items).encode()
        case [version, name, key] if version in VERSIONS and name == _META_DATA:
            found = data.items.get(key)
            return None if found is None else found.encode()
        case [version, name] if version in VERSIONS and name == _USER_DATA:
            return data.user_data
    return None
