# SPDX-License-Identifier: Apache-2.0
"""What an SSVM opens for downloads inside of this cloud's own networks, between daemon and SSVMs."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from attrs import field, frozen

STORAGE_SOURCES = "storage.sources"  # daemon → agent: sites and proxy of the zone; idempotent (protocol 3)


@frozen
class SourceNetworks:
    """The zone's present `allowed_internal_sites`, and `host:port` of its proxy without the login."""

    allowed_sites: list[str] = field(factory=list)
    proxy: str = ""


@frozen
class SsvmAddress:
    """Where an SSVM of another zone serves links to images."""

    address: str
    port: int

    @property
    def ip(self) -> IPv4Address | IPv6Address:
        """Raises: ValueError when it is not an address."""
        return ip_address(self.address)
