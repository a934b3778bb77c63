# SPDX-License-Identifier: Apache-2.0
"""Who a request is from when proxies stand between: only those that were configured are believed."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


def client_address(peer: str, forwarded_for: Sequence[str], proxies: Sequence[Network]) -> str:
    """The last address that no trusted proxy has, of `X-Forwarded-For` read from its end.

    `peer` is who the connection is from, `forwarded_for` the values of that header. Anybody may send it: it
    counts from a configured proxy alone, and in it only what such proxies have added.
    """
    chain = [word.strip() for value in forwarded_for for word in value.split(",")]
    known = _address(peer)  # IPv4 that came in IPv6's clothes is shown without them
    current = peer if known is None else str(known)
    while chain and _is_proxy(current, proxies):
        said = _address(chain.pop())
        if said is None:
            break  # a proxy that writes no address is not asked further
        current = str(said)
    return current


def networks(texts: Sequence[str]) -> list[Network]:
    """Addresses and networks as they stand in a configuration; ValueError names what is neither."""
    return [ip_network(text) for text in texts]


def holds_proxy(source: str, proxies: Sequence[Network]) -> bool:
    """Whether a source of connections, an address or a network, holds a configured proxy."""
    try:
        network = ip_network(source)
    except ValueError:
        return False
    return any(network.version == proxy.version and network.overlaps(proxy) for proxy in proxies)


def _is_proxy(text: str, proxies: Sequence[Network]) -> bool:
    address = _address(text)
    return address is not None and any(address in network for network in proxies)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
