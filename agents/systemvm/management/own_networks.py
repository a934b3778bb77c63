# SPDX-License-Identifier: Apache-2.0
"""Collects this cloud's own public addresses, from which no image is downloaded.

A guest knows management, storage and control networks from its boot arguments. Addresses that share the
public network with image servers are known only from the configuration: those of hosts, of system VMs, and of
the daemon's listeners and origins.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import collapse_addresses, ip_network, summarize_address_range

from systemvm.host.zone import NetworkConfig
from systemvm.management.config import Configuration
from systemvm.wire.denied_networks import Network


def own_networks(configuration: Configuration) -> list[str]:
    """Return the CIDRs of the cloud's own addresses on public and guest networks and of the daemon, each
    once.
    """
    found: list[Network] = []
    for zone in configuration.current.values():
        for network in (zone.networks.public, zone.networks.guest):
            if network is not None:
                found += _of_network(network)
        for first, last in configuration.address_ranges.get(zone.name, []):
            found += summarize_address_range(first, last)
        found += _literal(zone.console.endpoint.host)
    for label in configuration.labels.values():
        if not label.is_control and not label.is_management:
            found += [ip_network(each.ip) for each in label.addresses]
    found += _literal(configuration.management.page.endpoint.host)
    for host, _ in configuration.management.control.listeners:
        found += _literal(host)
    fours = collapse_addresses(one for one in found if one.version == 4)
    sixes = collapse_addresses(one for one in found if one.version == 6)
    return [str(network) for network in (*fours, *sixes)]


def _of_network(network: NetworkConfig) -> Iterator[Network]:
    """Yield the host's address and the pool of system VMs, with their IPv6 addresses."""
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
    """Return the network of a literal address; a name resolves to one of the addresses above."""
    try:
        return [ip_network(host.strip("[]"))]
    except ValueError:
        return []
