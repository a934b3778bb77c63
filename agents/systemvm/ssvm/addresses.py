# SPDX-License-Identifier: Apache-2.0
"""Which addresses an image may come from: an own list, because `ipaddress.is_global` lets NAT64 and 6to4 by.

Private networks (RFC 1918, ULA) are allowed as such: many zones keep their mirrors there. What the zone keeps
for itself, its management, storage and control networks, comes with each request.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from attrs import field, frozen

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Nobody's image server is here, in any zone.
ALWAYS_DENIED: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), why)
    for network, why in (
        ("0.0.0.0/8", "this host"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("192.0.0.0/24", "reserved for protocols"),
        ("192.88.99.0/24", "6to4 relays"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "this host"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "an IPv4 address in IPv6 clothes"),
        ("::ffff:0:0:0/96", "an IPv4 address in IPv6 clothes"),
        ("::/96", "an IPv4 address in IPv6 clothes"),
        ("64:ff9b:1::/48", "local-use NAT64"),
        ("100::/64", "discard-only"),
        ("2001::/32", "Teredo"),
        ("2001:2::/48", "benchmarking"),
        ("2001:10::/28", "ORCHID"),
        ("2001:20::/28", "ORCHID"),
        ("2002::/16", "6to4"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
_NAT64 = ip_network("64:ff9b::/96")


@frozen
class AddressPolicy:
    """The addresses that fetch may connect to; `zone_denied` names the zone's own networks."""

    zone_denied: tuple[tuple[Network, str], ...] = field(factory=tuple)

    def why_denied(self, address: Address) -> str | None:
        """The reason against an address, None when there is none."""
        if isinstance(address, IPv6Address) and address in _NAT64:
            # The prefix is legitimate in networks without IPv4; what counts is where the translator goes.
            return self.why_denied(IPv4Address(int(address) & 0xFFFFFFFF))
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            return "an address with a zone id"
        for network, why in (*ALWAYS_DENIED, *self.zone_denied):
            if address.version == network.version and address in network:
                return why
        return None

    @classmethod
    def of_zone(cls, networks: Iterable[tuple[str, str]]) -> AddressPolicy:
        """From (CIDR, what it is); ValueError for what is none: an unreadable rule must not open a way."""
        return cls(tuple((ip_network(cidr, strict=False), why) for cidr, why in networks))
