# SPDX-License-Identifier: Apache-2.0
"""listNetworks, listPublicIpAddresses, listPortForwardingRules, listIpForwardingRules."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from attrs import frozen

from systemvm.host.zone import TrafficType
from systemvm.management.api.answers.networks import (
    ForwardingRuleAnswer,
    NetworkAnswer,
    NetworkServiceAnswer,
    PublicIpAddressAnswer,
    ServiceProviderAnswer,
)
from systemvm.management.api.command import ApiCall, Command, ResponseShape, ResultPage, paged
from systemvm.management.api.commands.tags import tag_answers
from systemvm.management.api.owner_names import read_names
from systemvm.management.api.ownership import OWNERS, owners_of
from systemvm.management.api.parameters import ParameterType, optional
from systemvm.management.api.tag_parameters import TAGGED, wanted_tags
from systemvm.management.api.zone_parts import (
    availability_of,
    guest_network_of,
    has_own_network,
    matching,
    offering_of,
)
from systemvm.management.guest_networks.composition import domain_of
from systemvm.management.state import (
    accounts,
    address_ranges,
    addresses,
    guest_networks,
    physical_networks,
    tags,
    zones,
)
from systemvm.management.state.accounts import Account, Domain
from systemvm.management.state.address_ranges import UNTAGGED, NetworkRange
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.guest_networks import GuestNetwork
from systemvm.management.state.physical_networks import PhysicalNetwork
from systemvm.management.state.status import GuestNetworkState, GuestType
from systemvm.management.state.zones import Zone

_ID = optional("id", ParameterType.UUID, "list only the one with this id")
_VM = optional("virtualmachineid", ParameterType.UUID, "list only those of this VM")  # Libcloud sends it
_ZONE = optional("zoneid", ParameterType.UUID, "list only those of this zone")


class NetworkCommands:
    """Guest networks, and public addresses, which only system VMs have."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._page = paged(self._listed)

    def commands(self) -> tuple[Command, ...]:
        text, boolean = ParameterType.STRING, ParameterType.BOOLEAN
        return (
            Command(
                "listNetworks", self._networks, "Lists guest networks.", NetworkAnswer, "network",
                ResponseShape.LIST,
                (
                    _ID, _ZONE, *OWNERS,
                    optional("type", text, "list only those of this type"),
                    optional("traffictype", text, "list only those of this traffic type"),
                    optional("physicalnetworkid", ParameterType.UUID, "list those of this physical network"),
                    optional("acltype", text, "list only those of this access rule"),
                    optional("canusefordeploy", boolean, "list only those that VMs can be deployed on"),
                    optional("issystem", boolean, "true: list only system networks; false: only others"),
                    TAGGED,
                ),
                sortable=("name", "type", "state"),
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
                "listPortForwardingRules", paged(self._no_rules), "Lists port forwarding rules.",
                ForwardingRuleAnswer, "portforwardingrule", ResponseShape.LIST, (_ID, _VM, *OWNERS),
            ),
            Command(
                "listIpForwardingRules", paged(self._no_rules), "Lists static NAT rules.",
                ForwardingRuleAnswer, "ipforwardingrule", ResponseShape.LIST, (_ID, _VM, *OWNERS),
            ),
        )  # fmt: skip

    async def _networks(self, call: ApiCall) -> ResultPage:
        """Return the answers of a page: only these are made, because each reads the rows of its network."""
        page: ResultPage = await self._page(call)
        return ResultPage(await self._database.read(_answers, page.rows, call), page.count)

    async def _listed(self, call: ApiCall) -> list[ListedNetwork]:
        return await self._database.read(_fitting_networks, call)

    async def _no_rules(self, call: ApiCall) -> Sequence[ForwardingRuleAnswer]:
        """Return no rule: guest networks are bridged, and do not forward ports or translate addresses."""
        await self._database.read(owners_of, call)
        return ()

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
            physical, of_range = await self._database.read(_place_of, zone, found.address)
            answers.append(
                PublicIpAddressAnswer(
                    id=found.uuid,
                    ipaddress=found.address,
                    zoneid=zone.uuid,
                    zonename=zone.name,
                    physicalnetworkid=physical.uuid if physical else None,
                    vlanid=of_range.uuid if of_range else None,
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


@frozen
class ListedNetwork:
    """What a list of networks is limited and ordered by, under the names of the answer's keys."""

    zone: Zone
    created: GuestNetwork | None  # None: the zone's own
    physicalnetworkid: str | None
    traffictype: str = "Guest"
    canusefordeploy: bool = True
    issystem: bool = False

    @property
    def id(self) -> str:
        return guest_network_of(self.zone).id if self.created is None else self.created.uuid

    @property
    def name(self) -> str:
        return guest_network_of(self.zone).name if self.created is None else self.created.name

    @property
    def zoneid(self) -> str:
        return self.zone.uuid

    @property
    def guest_type(self) -> GuestType:
        return GuestType.SHARED if self.created is None else self.created.guest_type

    @property
    def type(self) -> str:
        return self.guest_type.value

    @property
    def acltype(self) -> str:
        return "Domain" if self.guest_type is GuestType.SHARED else "Account"

    @property
    def state(self) -> str:
        return (GuestNetworkState.SETUP if self.created is None else self.created.state).value


def _fitting_networks(connection: Connection, call: ApiCall) -> list[ListedNetwork]:
    """Return shared networks, and others of the accounts that the call lists."""
    created = guest_networks.visible_to(connection, owners_of(connection, call).account_ids)
    found = []
    for zone in zones.list_zones(connection):
        physical = _physical_network_of(connection, zone)
        own = [None] if has_own_network(connection, zone) else []
        of_zone = (each for each in created if each.zone_id == zone.id)
        found += [ListedNetwork(zone, each, physical) for each in (*own, *of_zone)]
    names = ("id", "zoneid", "type", "traffictype", "physicalnetworkid", "acltype", "canusefordeploy")
    fitting = matching(call, found, *names, "issystem")
    wanted = wanted_tags(call.arguments)
    if wanted is None:
        return fitting
    tagged = tags.of_objects(connection, [each.id for each in fitting if each.created])
    return [
        each for each in fitting if any((tag.key, tag.value) in wanted for tag in tagged.get(each.id, []))
    ]


def _answers(connection: Connection, listed: Sequence[ListedNetwork], call: ApiCall) -> list[NetworkAnswer]:
    sees_vlan = call.principal.is_admin
    return [answer_of(connection, each.zone, each.created, sees_vlan=sees_vlan) for each in listed]


def _physical_network_of(connection: Connection, zone: Zone) -> str | None:
    physical = physical_networks.network_of_traffic(connection, zone.id, TrafficType.GUEST)
    return physical.uuid if physical else None


def services_of(guest_type: GuestType) -> list[NetworkServiceAnswer]:
    """Return what guest networks of a type have. There is no router: nothing is forwarded or translated."""
    if guest_type is GuestType.L2:
        return [NetworkServiceAnswer(name="UserData", provider=[ServiceProviderAnswer(name="ConfigDrive")])]
    return [NetworkServiceAnswer(name=name) for name in ("Dhcp", "Dns", "UserData")]


def answer_of(
    connection: Connection, zone: Zone, created: GuestNetwork | None, *, sees_vlan: bool
) -> NetworkAnswer:
    """Return the answer of a network that createNetwork has made, or of the zone's own."""
    listed = ListedNetwork(zone, created, _physical_network_of(connection, zone))
    guest_type = listed.guest_type
    is_shared, offering = guest_type is GuestType.SHARED, offering_of(zone, guest_type)
    owner, domain = _owner_of(connection, created)
    vlan = None if created is None else created.vlan
    # one without a VLAN now is not untagged either
    vlan_text = str(vlan) if vlan is not None else UNTAGGED if is_shared else None
    tagged = [] if created is None else tags.of_objects(connection, [created.uuid]).get(created.uuid, [])
    number = None if created is None else created.id
    ranges = address_ranges.of_guest_network(connection, zone.id, number)
    dns = [*([] if guest_type is GuestType.L2 else zone.dns), None, None]
    first = ranges[0] if ranges else None  # earlier releases deleted the last one, too
    return NetworkAnswer(
        id=listed.id,
        name=listed.name,
        displaytext=f"the guest network of {zone.name}" if created is None else created.display_text,
        tags=tag_answers(tagged, read_names(connection)) if tagged else [],
        zoneid=zone.uuid,
        zonename=zone.name,
        traffictype=listed.traffictype,
        type=listed.type,
        state=listed.state,
        acltype=listed.acltype,
        account=None if owner is None else owner.name,
        domainid=None if domain is None else domain.uuid,
        domain=None if domain is None else domain.name,
        service=services_of(guest_type),
        vlan=vlan_text if sees_vlan else None,
        broadcasturi=f"vlan://{vlan_text}" if sees_vlan and vlan_text else None,
        broadcastdomaintype="Vlan",
        cidr=str(first.cidr) if first else None,
        gateway=str(first.gateway) if first and first.gateway else None,
        netmask=str(first.cidr.netmask) if first else None,
        networkdomain=domain_of(zone, created),
        networkofferingid=offering.id,
        networkofferingname=offering.name,
        networkofferingdisplaytext=offering.name,
        networkofferingavailability=availability_of(guest_type),
        dns1=dns[0],
        dns2=dns[1],
        ispersistent=is_shared,
        restartrequired=False,
        physicalnetworkid=listed.physicalnetworkid,
        issystem=listed.issystem,
        isdefault=created is None,
        canusefordeploy=listed.canusefordeploy,
        specifyipranges=is_shared and any(each.size for each in ranges),
    )


def _owner_of(connection: Connection, created: GuestNetwork | None) -> tuple[Account | None, Domain | None]:
    if created is None or created.account_id is None:
        return None, None
    owner = accounts.account_by_id(connection, created.account_id)
    return owner, accounts.domain_by_id(connection, owner.domain_id)


def _place_of(
    connection: Connection, zone: Zone, address: str
) -> tuple[PhysicalNetwork | None, NetworkRange | None]:
    """Return the physical network and the range of a public address."""
    ranges = address_ranges.list_ranges(connection, zone.id, TrafficType.PUBLIC)
    return (
        physical_networks.network_of_traffic(connection, zone.id, TrafficType.PUBLIC),
        next((each for each in ranges if ip_address(address) in each), None),
    )
