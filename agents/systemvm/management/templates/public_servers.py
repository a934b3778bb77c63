# SPDX-License-Identifier: Apache-2.0
"""The SSVMs of a zone that clients reach, each by an endpoint of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address

from attrs import frozen

from systemvm.management.state import instances
from systemvm.management.state.database import Connection
from systemvm.management.state.instances import Instance
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.vm_name import VmName


@frozen
class PublicServer:
    """An SSVM and how clients reach it."""

    name: str
    endpoint: PublicEndpoint
    address: str


#: Returns the advertised endpoint that an SSVM has by its public address: a name needs a certificate for it.
AdvertisedAt = Callable[[str], PublicEndpoint]


def servers_of(
    connection: Connection, zone_id: int, up: Iterable[str], advertised_at: AdvertisedAt
) -> list[PublicServer]:
    """Return those of the zone whose names are in `up` and that have a public address."""
    names = {VmName(name) for name in up}
    servers = []
    for vm in instances.list_system(connection, zone_id):
        if VmName(vm.instance_name) in names:
            address = public_address_of(connection, vm)
            if address is not None:
                endpoint = advertised_at(address).at(ip_address(address))
                servers.append(PublicServer(vm.instance_name, endpoint, address))
    return servers


def public_address_of(connection: Connection, vm: Instance) -> str | None:
    nic = instances.outside_nic(instances.nics_of(connection, vm.id))
    return None if nic is None else nic.reached_at
