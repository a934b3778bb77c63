# SPDX-License-Identifier: Apache-2.0
"""listNetworks, listPublicIpAddresses, listPortForwardingRules, listIpForwardingRules."""

from __future__ import annotations

from collections.abc import Sequence

from systemvm.host.zone import TrafficType
from systemvm.management.api.answers.networks import (
    ForwardingRuleAnswer,
    NetworkAnswer,
    PublicIpAddressAnswer,
)
from systemvm.management.api.command import ApiCall, Command, ResponseShape, paged
from systemvm.management.api.ownership import OWNERS, owners_of
from systemvm.management.api.parameters import ParameterType, optional
from systemvm.management.api.zone_parts import (
    NetworksOf,
    guest_network_of,
    guest_network_offering_of,
    matching,
    physical_network_of,
    public_range_of,
)
from systemvm.management.state import addresses, zones
from systemvm.management.state.database import Database

_ID = optional("id", ParameterType.UUID, "list only the one with this id")
_ZONE = optional("zoneid", ParameterType.UUID, "list only those of this zone")


class NetworkCommands:
    """The shared guest network of each zone, and public addresses, which only system VMs have."""

    def __init__(self, database: Database, networks_of: NetworksOf) -> None:
        self._database = database
        self._networks_of = networks_of

    def commands(self) -> tuple[Command, ...]:
        text, boolean = ParameterType.STRING, ParameterType.BOOLEAN
        return (
            Command(
                "listNetworks", paged(self._networks), "Lists guest networks.", NetworkAnswer, "network",
                ResponseShape.LIST,
                (
                    _ID, _ZONE, *OWNERS,
                    optional("type", text, "list only those of this type"),
                    optional("traffictype", text, "list only those of this traffic type"),
                    optional("physicalnetworkid", ParameterType.UUID, "list those of this physical network"),
                    optional("acltype", text, "list only those of this access rule"),
                    optional("canusefordeploy", boolean, "list only those that VMs can be deployed on"),
                    optional("issystem", boolean, "true: list only system networks; false: only others"),
                ),
            ),
            Command(
                "listPublicIpAddresses", paged(self._public_addresses),
                "Lists the caller's public addresses; with forsystemvms those of system VMs.",
                PublicIpAddressAnswer, "publicipaddress", ResponseShape.LIST,
                (
                    _ID, _ZONE, *OWNERS,
                    optional("ipaddress", text, "list only this address"),
                    optional("virtualmachineid", ParameterType.UUID, "list only those of this machine"),
                    optional("physicalnetworkid", ParameterType.UUID, "list those of this physical network"),
                    optional("vlanid", ParameterType.UUID, "list only those of this range"),
                    optional("state", text, "list only those in this state"),
                    optional("issourcenat", boolean, "true: only source NAT addresses; false: only others"),
                    optional("isstaticnat", boolean, "true: only static NAT addresses; false: only others"),
                    optional("forvirtualnetwork", boolean, "true: list only public ones; false: only others"),
                    optional("forsystemvms", boolean, "list those of system VMs; for administrators only"),
                ),
            ),
            Command(
                "listPortForwardingRules", paged(_no_rules), "Lists port forwarding rules.",
                ForwardingRuleAnswer, "portforwardingrule", ResponseShape.LIST, (_ID, *OWNERS),
            ),
            Command(
                "listIpForwardingRules", paged(_no_rules), "Lists static NAT rules.",
                ForwardingRuleAnswer, "ipforwardingrule", ResponseShape.LIST, (_ID, *OWNERS),
            ),
        )  # fmt: skip

    async def _networks(self, call: ApiCall) -> list[NetworkAnswer]:
        await self._database.read(
            owners_of, call
        )  # networks are shared, but the parameters are still checked
        answers = []
        for zone in await self._database.read(zones.list_zones):
            guest = self._networks_of(zone.name).guest
            if guest is None:
                continue
            network, offering = guest_network_of(zone), guest_network_offering_of(zone)
            answers.append(
                NetworkAnswer(
                    id=network.id,
                    name=network.name,
                    displaytext=f"the guest network of {zone.name}",
                    zoneid=zone.uuid,
                    zonename=zone.name,
                    traffictype="Guest",
                    type="Shared",
                    state="Setup",
                    acltype="Domain",
                    broadcastdomaintype="Vlan",
                    cidr=str(guest.cidr),
                    gateway=str(guest.router) if guest.router else None,
                    netmask=str(guest.netmask),
                    networkofferingid=offering.id,
                    networkofferingname=offering.name,
                    networkofferingdisplaytext=offering.name,
                    physicalnetworkid=physical_network_of(zone, guest).id,
                    issystem=False,
                    isdefault=True,
                    canusefordeploy=True,
                    specifyipranges=False,
                )
            )
        names = ("id", "zoneid", "type", "traffictype", "physicalnetworkid", "acltype", "canusefordeploy")
        return matching(call, answers, *names, "issystem")

    async def _public_addresses(self, call: ApiCall) -> list[PublicIpAddressAnswer]:
        await self._database.read(owners_of, call)
        if not (call.principal.is_admin and call.arguments.flag("forsystemvms")):
            return []  # no account has any: VMs are on the guest network only
        rows = {zone.id: zone for zone in await self._database.read(zones.list_zones)}
        answers = []
        for found in await self._database.read(addresses.of_system_vms, TrafficType.PUBLIC.value):
            zone = rows.get(found.zone_id)
            if zone is None:
                continue
            answers.append(
                PublicIpAddressAnswer(
                    id=found.uuid,
                    ipaddress=found.address,
                    zoneid=zone.uuid,
                    zonename=zone.name,
                    physicalnetworkid=physical_network_of(zone, self._networks_of(zone.name).public).id,
                    vlanid=public_range_of(zone).id,
                    virtualmachineid=found.vm_uuid,
                    virtualmachinename=found.vm_name,
                    allocated=found.created,
                    state="Allocated",
                    forvirtualnetwork=True,
                    issourcenat=False,
                    isstaticnat=False,
                    issystem=True,
                )
            )
        names = ("id", "zoneid", "ipaddress", "virtualmachineid", "physicalnetworkid", "vlanid", "state")
        return matching(call, answers, *names, "issourcenat", "isstaticnat", "forvirtualnetwork")


async def _no_rules(call: ApiCall) -> Sequence[ForwardingRuleAnswer]:
    """Return no rule: guest networks are bridged, and do not forward ports or translate addresses."""
    return ()
