# SPDX-License-Identifier: Apache-2.0
"""Which addresses an image may come from: from none of the networks of `wire.denied_networks`.

Private networks (RFC 1918, ULA) are allowed as such: many zones keep their mirrors there. What the zone keeps
for itself, its management, storage and control networks, comes with each request.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from attrs import field, frozen

from systemvm.wire.denied_networks import RESERVED, behind_nat64

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@frozen
class AddressPolicy:
    """The addresses that fetch may connect to; `zone_denied` names the zone's own networks."""

    zone_denied: tuple[tuple[Network, str], ...] = field(factory=tuple)

    def why_denied(self, address: Address) -> str | None:
        """The reason against an address, None when there is none."""
        if isinstance(address, IPv6Address):
            translated = behind_nat64(address)
            if translated is not None:
                return self.why_denied(translated)
            if address.scope_id is not None:
                return "an address with a zone id"
        for network, why in (*RESERVED, *self.zone_denied):
            if address.version == network.version and address in network:
                return why
        return None

    @classmethod
    def of_zone(cls, networks: Iterable[tuple[str, str]]) -> AddressPolicy:
        """From (CIDR, what it is); ValueError for what is none: an unreadable rule must not open a way."""
        return cls(tuple((ip_network(cidr, strict=False), why) for cidr, why in networks))
