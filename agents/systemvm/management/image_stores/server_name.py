# SPDX-License-Identifier: Apache-2.0
"""The address of an NFS server that is given by its name: looked up once, when its store is added.

CloudStack looks a name up at each mount, and names the mount point by the address that it finds (reference
2.2). A record that changes would then move a store's files elsewhere, so the address is what is kept here.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

from twisted.internet.threads import deferToThread

from systemvm.management.name_lookup import LOOKUP_S, MOST_LOOKUP_S, NameLookup
from systemvm.service.slowness import scaled_s

Address = IPv4Address | IPv6Address
Resolve = Callable[[str], Awaitable[list[Address]]]
_names = NameLookup()

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\.?")


def is_host_name(text: str) -> bool:
    """Return whether a text is a host name (RFC 1123, 2.1) and not an address."""
    return bool(_HOST_NAME.fullmatch(text)) and not text.rstrip(".").rpartition(".")[2].isdigit()


def _look_up(host: str) -> list[Address]:
    try:
        found = _names.addresses(host, 0, min(scaled_s(LOOKUP_S), MOST_LOOKUP_S))
    except TimeoutError:
        raise TimeoutError("no name server answers") from None
    return [ip_address(address) for address in found]


async def resolve(host: str) -> list[Address]:
    """Return the addresses that this host's resolver knows, in a thread.

    Raises: OSError when the name cannot be resolved, also when no name server answers in time.
    """
    addresses: list[Address] = await deferToThread(_look_up, host)
    return addresses


def choose(addresses: list[Address]) -> Address:
    """Return the one address of a server: that of IPv4, else that of IPv6.

    Raises: ValueError with the reason when there is no such one.
    """
    for version in (4, 6):
        found = sorted({each for each in addresses if each.version == version}, key=int)
        if len(found) > 1:
            raise ValueError(f"it has several addresses: {', '.join(map(str, found))}")
        for address in found:
            if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
                raise ValueError(f"{address} is not an address of another machine")
            return address
    raise ValueError("it has no address")
