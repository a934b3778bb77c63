# SPDX-License-Identifier: Apache-2.0
"""What `systemvm-guestnet` serves on guest bridges: the daemon writes it, the program reads and checks it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network

import msgspec

#: RFC 1123 labels; these names occur unquoted in dnsmasq's files.
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_DOMAIN = re.compile(rf"{_HOST_NAME.pattern}(\.{_HOST_NAME.pattern})*")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_PASSWORD_ID = re.compile(r"[0-9a-f-]{1,36}")
_MAX_DOMAIN_LENGTH = 190
#: The metadata service's address on every guest bridge, at which most clouds have it.
METADATA_ADDRESS = IPv4Address("169.254.169.254")
METADATA_PORT = 80
#: CloudStack's password server is beside it.
PASSWORD_PORT = 8080
#: By this name cloud-init finds CloudStack's metadata service.
DATA_SERVER = "data-server"
#: Words that dnsmasq would not take as a name in a line for DHCP.
DHCP_WORDS = frozenset({"ignore", "infinite"})
#: Names, in lower case, that no machine can have.
RESERVED_NAMES = DHCP_WORDS | {DATA_SERVER}


def is_host_name(text: str) -> bool:
    return _HOST_NAME.fullmatch(text) is not None


def is_mac(text: str) -> bool:
    return _MAC.fullmatch(text) is not None


def is_domain(text: str) -> bool:
    return len(text) <= _MAX_DOMAIN_LENGTH and _DOMAIN.fullmatch(text) is not None


class Guest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A NIC with an address that the cloud gave it."""

    mac: str
    address: IPv4Address
    name: str  # of its machine, without a domain
    is_here: bool  # whether its machine runs on this host: DHCP answers only these
    has_router: bool = True  # only a machine's first NIC gets a default route

    def __post_init__(self) -> None:
        if not is_mac(self.mac):
            raise ValueError(f"{self.mac[:40]!r} is not a MAC")
        if not is_host_name(self.name):
            raise ValueError(f"{self.name[:64]!r} is not a host name")


class GuestSubnet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A subnet on a guest bridge, with its machines."""

    cidr: IPv4Network
    gateway: IPv4Address | None
    domain: str
    guests: tuple[Guest, ...] = ()
    host_address: IPv4Address | None = None  # of an isolated network; of others root's files have it

    def __post_init__(self) -> None:
        if not is_domain(self.domain):
            raise ValueError(f"{self.domain[:64]!r} is not a domain")
        if self.host_address is not None and self.host_address not in self.cidr:
            raise ValueError(f"address {self.host_address} is not in {self.cidr}")
        for guest in self.guests:
            if guest.address not in self.cidr:
                raise ValueError(f"address {guest.address} is not in {self.cidr}")


class GuestBridge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bridge of this host with guest traffic, its subnets, and the name servers that names are asked of."""

    bridge: str
    subnets: tuple[GuestSubnet, ...]
    name_servers: tuple[IPv4Address, ...] = ()


class GuestPassword(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A password that a machine has not taken yet."""

    id: str  # another one for each password
    text: str

    def __post_init__(self) -> None:
        if not _PASSWORD_ID.fullmatch(self.id):
            raise ValueError(f"{self.id[:40]!r} is not the id of a password")

    def __repr__(self) -> str:
        return f"GuestPassword(id={self.id!r})"


class GuestData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the metadata service answers one machine."""

    items: dict[str, str]  # CloudStack's names of meta-data and their values
    user_data: bytes | None = None
    password: GuestPassword | None = None


def encode_data(data: GuestData) -> bytes:
    return msgspec.json.encode(data)


def decode_data(data: bytes) -> GuestData:
    """Raises: ValueError when it is not what `encode_data` returns."""
    return msgspec.json.decode(data, type=GuestData)


def encode(bridges: Sequence[GuestBridge]) -> bytes:
    return msgspec.json.encode(list(bridges), enc_hook=str)


def decode(data: bytes) -> list[GuestBridge]:
    """Raises: ValueError when it is not what `encode` returns."""
    return msgspec.json.decode(data, type=list[GuestBridge], dec_hook=_address)


def _address(wanted: type, value: object) -> object:
    if wanted in (IPv4Address, IPv4Network) and isinstance(value, str):
        return wanted(value)
    raise ValueError(f"cannot be read as {wanted.__name__}")
