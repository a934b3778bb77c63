# SPDX-License-Identifier: Apache-2.0
"""This cloud's own addresses where its users' downloads go out: no image comes from there.

Management, storage and control networks are a guest's to know, from its boot arguments. What shares the
public network with image servers is no network of its own, and only the configuration can tell it apart: the
hosts' addresses there, those that system VMs get, and those at which the daemon listens or is advertised.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import collapse_addresses, ip_network, summarize_address_range

from systemvm.host.zone import NetworkConfig
from systemvm.management.config import Configuration
from systemvm.wire.denied_networks import Network


def own_networks(configuration: Configuration) -> list[str]:
    """CIDRs of all zones' public and guest networks' own addresses, and of the daemon's, each once."""
    found: list[Network] = []
    for zone in configuration.zones:
        for network in (zone.networks.public, zone.networks.guest):
            if network is not None:
                found += _of_network(network)
        found += _literal(zone.console.endpoint.host)
    found += _literal(configuration.management.page.endpoint.host)
    for host, _ in configuration.management.control.listeners:
        found += _literal(host)
    fours = collapse_addresses(one for one in found if one.version == 4)
    sixes = collapse_addresses(one for one in found if one.version == 6)
    return [str(network) for network in (*fours, *sixes)]


def _of_network(network: NetworkConfig) -> Iterator[Network]:
    """The host's address and the pool of system VMs, with the IPv6 addresses beside them."""
    ranges = []
    if network.host_address is not None:
        ranges.append((network.host_address, network.host_address))
    if network.pool is not None:
        ranges.append((network.pool.first, network.pool.last))
    for first, last in ranges:
        yield from summarize_address_range(first, last)
        first6, last6 = network.address6(first), network.address6(last)
        if first6 is not None and last6 is not None:
            yield from summarize_address_range(first6.ip, last6.ip)


def _literal(host: str) -> list[Network]:
    """The network of one address; a name is for DNS to say, and its address is one of those above."""
    try:
        return [ip_network(host.strip("[]"))]
    except ValueError:
        return []
