# SPDX-License-Identifier: Apache-2.0
"""createNetwork, updateNetwork and deleteNetwork: shared guest networks."""

from __future__ import annotations

from systemvm.host.zone import TrafficType
from systemvm.management.api.answers.networks import NetworkAnswer
from systemvm.management.api.commands.model_commands import Done, ModelCommand
from systemvm.management.api.commands.model_parameters import (
    STRING,
    UUID,
    ZONE,
    identity,
    subnet_of,
    subnet_parameters,
    zone_of,
)
from systemvm.management.api.commands.networks import answer_of
from systemvm.management.api.parameters import Arguments, only, optional, required
from systemvm.management.api.zone_parts import guest_network_offering_of
from systemvm.management.state import guest_networks, physical_networks, zones
from systemvm.management.state.database import Connection
from systemvm.management.zone_model import guest_networks as model
from systemvm.management.zone_model.ranges import Labels
from systemvm.management.zone_model.refusals import check_domain, invalid
from systemvm.management.zone_model.subnets import check_untagged

_IDENTITY = identity("network", "listNetworks")
_DOMAIN = optional("networkdomain", STRING, "domain of its VMs' names; the zone's by default")


def _create(connection: Connection, arguments: Arguments, labels: Labels) -> NetworkAnswer:
    check_untagged(arguments.text("vlan"), TrafficType.GUEST)
    zone = zone_of(connection, arguments)
    offering = guest_network_offering_of(zone)
    if arguments.get("networkofferingid", offering.id) != offering.id:
        raise invalid(
            "networkofferingid",
            f"is not an offering of zone {zone.name}",
            f"send {offering.id}, which listNetworkOfferings has: every guest network is a shared one",
        )
    if "physicalnetworkid" in arguments:
        network = physical_networks.network_by_uuid(connection, arguments["physicalnetworkid"])
        if network.zone_id != zone.id:
            raise invalid(
                "physicalnetworkid",
                f"{network.name} is not in zone {zone.name}",
                "send one of the zone; see listPhysicalNetworks",
            )
    created = model.create_network(
        connection,
        zone,
        subnet_of(arguments),
        labels,
        name=arguments["name"],
        display_text=arguments.get("displaytext", ""),
        domain=_domain(arguments),
    )
    return answer_of(connection, zone, created)


def _update(connection: Connection, arguments: Arguments, labels: Labels) -> NetworkAnswer:
    updated = model.update_network(
        connection,
        guest_networks.by_uuid(connection, arguments["id"]),
        name=arguments.text("name"),
        display_text=arguments.text("displaytext"),
        domain=_domain(arguments),
    )
    return answer_of(connection, zones.zone_by_id(connection, updated.zone_id), updated)


def _delete(connection: Connection, arguments: Arguments, labels: Labels) -> str:
    network = guest_networks.by_uuid(connection, arguments["id"])
    model.delete_network(connection, network)
    return network.name


def _domain(arguments: Arguments) -> str | None:
    domain = arguments.text("networkdomain")
    return None if domain is None else check_domain("networkdomain", domain)


GUEST_NETWORKS = (
    ModelCommand(
        "createNetwork", "Creates a shared guest network with addresses, DHCP, DNS and metadata.", "network",
        "NETWORK.CREATE", Done.CREATED, _create,
        (
            ZONE,
            required("name", STRING, "the name"),
            optional("networkofferingid", UUID, "UUID of the zone's only offering; see listNetworkOfferings"),
            optional("displaytext", STRING, "a description for people; the name by default"),
            *subnet_parameters(is_span_required=True),
            _DOMAIN,
            optional("physicalnetworkid", UUID, "UUID of the physical network with the zone's guest traffic"),
            optional("vlan", STRING, "untagged: it is on the bridge of the zone's guest traffic"),
            only("acltype", STRING, "who can use it: all accounts", "Domain"),
        ),
        NetworkAnswer, "network", related=("listNetworks", "listNetworkOfferings", "deleteNetwork"),
    ),
    ModelCommand(
        "updateNetwork", "Changes names of a guest network that createNetwork has made.", "network",
        "NETWORK.UPDATE", Done.UPDATED, _update,
        (
            _IDENTITY,
            optional("name", STRING, "the new name"),
            optional("displaytext", STRING, "the new description for people"),
            _DOMAIN,
        ),
        NetworkAnswer, "network", is_async=True, related=("listNetworks",),
    ),
    ModelCommand(
        "deleteNetwork", "Deletes a guest network that createNetwork has made and no VM is on.", "network",
        "NETWORK.DELETE", Done.DELETED, _delete, (_IDENTITY,), is_async=True, related=("listNetworks",),
    ),
)  # fmt: skip
