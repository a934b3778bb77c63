# SPDX-License-Identifier: Apache-2.0
"""Which addresses fetch can connect to: none in the networks of `wire.denied_networks`.

Private networks (RFC 1918, ULA) are allowed: many zones have their mirrors there. The zone's own networks
(management, storage and control) come with each request.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from attrs import field, frozen

from systemvm.wire.denied_networks import RESERVED, embedded_ipv4

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@frozen
class AddressPolicy:
    """The addresses that fetch can connect to; `zone_denied` names the zone's own networks.

    `opened` are the parts of those that the operator permits; nothing opens a reserved network.
    """

    zone_denied: tuple[tuple[Network, str], ...] = field(factory=tuple)
    opened: tuple[Network, ...] = field(factory=tuple)

    def why_denied(self, address: Address) -> str | None:
        """Return the reason why an address is denied; None when it is allowed."""
        if isinstance(address, IPv6Address):
            translated = embedded_ipv4(address)
            if translated is not None:
                return self.why_denied(translated)
            if address.scope_id is not None:
                return "an address with a zone id"
        is_opened = any(_contains(network, address) for network in self.opened)
        for network, why in RESERVED if is_opened else (*RESERVED, *self.zone_denied):
            if _contains(network, address):
                return why
        return None

    @classmethod
    def of_zone(cls, networks: Iterable[tuple[str, str]], opened: Iterable[str] = ()) -> AddressPolicy:
        """Make a policy of (CIDR, name) pairs, and of the CIDRs that are opened.

        Raises: ValueError when one is not a CIDR: a rule that cannot be parsed must not allow anything.
        """
        return cls(
            tuple((_parse(cidr, False), why) for cidr, why in networks),
            tuple(_parse(cidr, True) for cidr in opened),
        )


@lru_cache(maxsize=256)  # the networks of a zone are the same for each download
def _parse(cidr: str, strict: bool) -> Network:
    return ip_network(cidr, strict)


def _contains(network: Network, address: Address) -> bool:
    return address.version == network.version and address in network
