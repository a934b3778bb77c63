# SPDX-License-Identifier: Apache-2.0
"""The client's address behind proxies; only configured proxies are trusted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


def client_address(peer: str, forwarded_for: Sequence[str], proxies: Sequence[Network]) -> str:
    """Return the last address in `X-Forwarded-For` that is not a trusted proxy.

    `peer` is the address of the connection, `forwarded_for` the values of the header. Any client can send the
    header: it is used only from a configured proxy, and only the part that such proxies have added.
    """
    chain = [item.strip() for value in forwarded_for for item in value.split(",")]
    known = _address(peer)  # an IPv4 address embedded in IPv6 becomes IPv4
    current = peer if known is None else str(known)
    while chain and _is_proxy(current, proxies):
        forwarded = _address(chain.pop())
        if forwarded is None:
            break  # not an address: earlier entries are not trusted
        current = str(forwarded)
    return current


def networks(texts: Sequence[str]) -> list[Network]:
    """Parse the addresses and networks of a configuration.

    Raises: ValueError when one is neither.
    """
    return [ip_network(text) for text in texts]


def holds_proxy(source: str, proxies: Sequence[Network]) -> bool:
    """Return whether a source of connections (an address or a network) contains a configured proxy."""
    try:
        network = ip_network(source)
    except ValueError:
        return False
    return any(network.version == proxy.version and network.overlaps(proxy) for proxy in proxies)


def _is_proxy(text: str, proxies: Sequence[Network]) -> bool:
    address = _address(text)
    return address is not None and any(address in network for network in proxies)


@lru_cache(maxsize=1024)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
