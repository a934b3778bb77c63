# SPDX-License-Identifier: Apache-2.0
"""createNetwork, updateNetwork and deleteNetwork: shared guest networks, isolated and L2 ones of accounts."""

from __future__ import annotations

from typing import Any

from systemvm.host.zone import TrafficType
from systemvm.management.api.answers.networks import NetworkAnswer
from systemvm.management.api.command import ApiCall
from systemvm.management.api.commands.model_commands import Done, ModelCommand
from systemvm.management.api.commands.model_parameters import (
    STRING,
    UUID,
    ZONE,
    identity,
    subnet_of,
    zone_of,
)
from systemvm.management.api.commands.networks import answer_of
from systemvm.management.api.errors import unauthorized
from systemvm.management.api.ownership import OWNER, owner_of
from systemvm.management.api.parameters import Arguments, optional, required
from systemvm.management.api.principal import ANY_ACCOUNT, Principal
from systemvm.management.api.zone_parts import offering_of
from systemvm.management.state import guest_networks, physical_networks, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.guest_networks import GuestNetwork
from systemvm.management.state.pods import ENABLED
from systemvm.management.state.status import GuestType
from systemvm.management.state.zones import Zone
from systemvm.management.zone_model import guest_networks as model
from systemvm.management.zone_model.isolated_networks import create_isolated_network
from systemvm.management.zone_model.l2_networks import create_l2_network
from systemvm.management.zone_model.ranges import Labels
from systemvm.management.zone_model.refusals import check_domain, invalid, wrong_state
from systemvm.management.zone_model.subnets import read_vlan

_IDENTITY = identity("network", "listNetworks")
_DOMAIN = optional("networkdomain", STRING, "domain of its VMs' names; the zone's by default")
#: The number of the account that an isolated or L2 network is for.
_OWNER = "owner"
_GUEST_TYPE = "guesttype"
_SEES_VLAN = "seesvlan"
_ANY_SIZE = "anysize"


def _may_create(connection: Connection, call: ApiCall) -> dict[str, Any]:
    """Return the type of the network, and who will own it: nobody if it is shared."""
    zone = zone_of(connection, call.arguments)
    guest_type = _guest_type_of(zone, call)
    added = {_SEES_VLAN: call.principal.is_admin, _GUEST_TYPE: guest_type}
    if guest_type is not GuestType.SHARED:
        return {_OWNER: owner_of(connection, call).id, _ANY_SIZE: call.principal.is_admin, **added}
    if not call.principal.is_admin:
        raise unauthorized("only root administrators can create shared networks")
    return added


def _guest_type_of(zone: Zone, call: ApiCall) -> GuestType:
    """Return the type of the offering's networks; without one users create isolated networks."""
    offering = call.arguments.text("networkofferingid")
    if offering is None:
        return GuestType.SHARED if call.principal.is_admin else GuestType.ISOLATED
    known = {offering_of(zone, each).id: each for each in GuestType}
    if offering not in known:
        raise invalid(
            "networkofferingid", f"is not an offering of zone {zone.name}", "send one of listNetworkOfferings"
        )
    return known[offering]


def _create(connection: Connection, arguments: Arguments, labels: Labels) -> NetworkAnswer:
    zone = zone_of(connection, arguments)
    if "physicalnetworkid" in arguments:
        network = physical_networks.network_by_uuid(connection, arguments["physicalnetworkid"])
        if network.zone_id != zone.id:
            raise invalid(
                "physicalnetworkid",
                f"{network.name} is not in zone {zone.name}",
                "send one of the zone; see listPhysicalNetworks",
            )
    carries = physical_networks.network_of_traffic(connection, zone.id, TrafficType.GUEST)
    if carries is not None and carries.state != ENABLED:
        why = f"its physical network of guest traffic, {carries.name}, is Disabled"
        raise wrong_state(f"zone {zone.name}", why, "enable it with updatePhysicalNetwork")
    vlan = read_vlan(arguments.text("vlan"))
    if arguments[_GUEST_TYPE] is GuestType.ISOLATED:
        created = _create_isolated(connection, zone, arguments, labels, vlan)
    elif arguments[_GUEST_TYPE] is GuestType.L2:
        created = _create_l2(connection, zone, arguments, labels)
    else:
        for name in ("gateway", "netmask", "startip"):
            if name not in arguments:
                raise invalid(name, "is missing", "a shared network needs gateway, netmask and startip")
        created = model.create_network(
            connection,
            zone,
            subnet_of(arguments),
            labels,
            name=arguments["name"],
            display_text=arguments.get("displaytext", ""),
            domain=_domain(arguments),
            vlan=vlan,
        )
    return answer_of(connection, zone, created, sees_vlan=arguments.flag(_SEES_VLAN))


def _create_isolated(
    connection: Connection, zone: Zone, arguments: Arguments, labels: Labels, vlan: int | None
) -> GuestNetwork:
    if vlan is not None:
        raise invalid("vlan", "an isolated network gets one by itself", "omit vlan")
    gateway, netmask = arguments.text("gateway"), arguments.text("netmask")
    if (gateway is None) != (netmask is None):
        missing = "gateway" if gateway is None else "netmask"
        raise invalid(missing, "is missing", "send gateway and netmask, or none of both for a free subnet")
    return create_isolated_network(
        connection,
        zone,
        labels,
        account_id=arguments[_OWNER],
        name=arguments["name"],
        display_text=arguments.get("displaytext", ""),
        domain=_domain(arguments),
        subnet=None if gateway is None or netmask is None else (gateway, netmask),
        span=(arguments.text("startip"), arguments.text("endip")),
        any_size=arguments.flag(_ANY_SIZE),
    )


def _create_l2(connection: Connection, zone: Zone, arguments: Arguments, labels: Labels) -> GuestNetwork:
    for name in ("gateway", "netmask", "startip", "endip"):
        if name in arguments:
            raise invalid(name, "the cloud has no addresses on an L2 network", f"omit {name}")
    if "vlan" in arguments:
        raise invalid("vlan", "an L2 network gets one by itself", "omit vlan")
    return create_l2_network(
        connection,
        zone,
        labels,
        account_id=arguments[_OWNER],
        name=arguments["name"],
        display_text=arguments.get("displaytext", ""),
        domain=_domain(arguments),
    )


def _may_change(connection: Connection, call: ApiCall) -> dict[str, Any]:
    """Check that the caller has access to a network of an account, or is an administrator of shared ones."""
    network = guest_networks.by_uuid(connection, call.arguments["id"])
    check_may_change(call.principal, network)
    return {_SEES_VLAN: call.principal.is_admin}


def check_may_change(principal: Principal, network: GuestNetwork) -> None:
    """Raises: ApiError 401 when the network is shared or of an account that the caller must not act for."""
    owner = network.account_id
    if not (principal.is_admin or (owner is not None and principal.may_use(owner))):
        raise unauthorized(
            f"account {principal.account.name} must not change network {network.uuid}", value=network.uuid
        )


def _update(connection: Connection, arguments: Arguments, labels: Labels) -> NetworkAnswer:
    updated = model.update_network(
        connection,
        guest_networks.by_uuid(connection, arguments["id"]),
        name=arguments.text("name"),
        display_text=arguments.text("displaytext"),
        domain=_domain(arguments),
    )
    zone = zones.zone_by_id(connection, updated.zone_id)
    return answer_of(connection, zone, updated, sees_vlan=arguments.flag(_SEES_VLAN))


def _delete(connection: Connection, arguments: Arguments, labels: Labels) -> str:
    network = guest_networks.by_uuid(connection, arguments["id"])
    model.delete_network(connection, network)
    return network.name


def _domain(arguments: Arguments) -> str | None:
    domain = arguments.text("networkdomain")
    return None if domain is None else check_domain("networkdomain", domain)


GUEST_NETWORKS = (
    ModelCommand(
        "createNetwork",
        "Creates a guest network: shared or an account's, with DHCP, DNS and metadata, or L2 without them.",
        "network", "NETWORK.CREATE", Done.CREATED, _create,
        (
            ZONE,
            required("name", STRING, "the name"),
            optional(
                "networkofferingid", UUID,
                "see listNetworkOfferings; by default shared for root administrators, isolated for others",
            ),
            optional("displaytext", STRING, "a description for people; the name by default"),
            optional("gateway", STRING, "router of a shared network; of an isolated one this host's address"),
            optional("netmask", STRING, "for example 255.255.255.0; of an isolated network: a free subnet"),
            optional("startip", STRING, "first address for VMs; of an isolated network: all but the gateway"),
            optional("endip", STRING, "last address; startip by default"),
            _DOMAIN,
            optional("physicalnetworkid", UUID, "UUID of the physical network with the zone's guest traffic"),
            optional("vlan", STRING, "of a shared network: one of the label's in host.yaml; else untagged"),
            optional("acltype", STRING, "who can use it", choices=("Account", "Domain")),
            *OWNER,
        ),
        NetworkAnswer, "network", related=("listNetworks", "listNetworkOfferings", "deleteNetwork"),
        roles=ANY_ACCOUNT, admit=_may_create,
    ),
    ModelCommand(
        "updateNetwork", "Changes names of a guest network that createNetwork has made.", "network",
        "NETWORK.UPDATE", Done.UPDATED, _update,
        (
            _IDENTITY,
            optional("name", STRING, "the new name"),
            optional(
                "displaytext", STRING, "the new description for people; empty: the name", clears=True
            ),
            _DOMAIN,
        ),
        NetworkAnswer, "network", is_async=True, related=("listNetworks",),
        roles=ANY_ACCOUNT, admit=_may_change,
    ),
    ModelCommand(
        "deleteNetwork", "Deletes a guest network that createNetwork has made and no VM is on.", "network",
        "NETWORK.DELETE", Done.DELETED, _delete, (_IDENTITY,), is_async=True, related=("listNetworks",),
        roles=ANY_ACCOUNT, admit=_may_change,
    ),
)  # fmt: skip
