# SPDX-License-Identifier: Apache-2.0
"""listZones, listHosts, listCapabilities."""

from __future__ import annotations

from systemvm.management.api.answers.zones import (
    CapabilityAnswer,
    HostAnswer,
    ZoneAnswer,
)
from systemvm.management.api.command import ApiCall, Command, ResponseShape, matches_keyword, paged
from systemvm.management.api.commands.host_answers import hosts_and_agents
from systemvm.management.api.parameters import ParameterType, only, optional
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.config import ExpungeConfig
from systemvm.management.configurations.expunge import expunge_rules
from systemvm.management.configurations.throttling import throttling_limits
from systemvm.management.state import zones
from systemvm.management.state.database import Database
from systemvm.service.release import RELEASE

#: The CloudStack release whose API is implemented.
CLOUDSTACK_VERSION = "4.22.0.0"

_DETAILS = ("all", "capacity", "events", "stats", "min")

_ZONE_PARAMETERS = (
    optional("id", ParameterType.UUID, "list only the one with this id"),
    optional("name", ParameterType.STRING, "list only the one with this name"),
    optional("ids", ParameterType.LIST, "list only those with these ids"),
    optional("networktype", ParameterType.STRING, "list only those of this type"),
    optional("available", ParameterType.BOOLEAN, "accepted, but without effect: all zones can be used"),
    only("showcapacities", ParameterType.BOOLEAN, "include capacities", False),
    only("showicon", ParameterType.BOOLEAN, "include icons", False),
)
_HOST_PARAMETERS = (
    optional("id", ParameterType.UUID, "list only the one with this id"),
    optional("name", ParameterType.STRING, "list only the one with this name"),
    optional(
        "type",
        ParameterType.STRING,
        "list only those of this type: Routing, SecondaryStorageVM or ConsoleProxy",
    ),
    optional("state", ParameterType.STRING, "list only those in this state"),
    optional("zoneid", ParameterType.UUID, "list only those of this zone"),
    optional("podid", ParameterType.UUID, "list only those of this pod"),
    optional("clusterid", ParameterType.UUID, "list only those of this cluster"),
    optional("hypervisor", ParameterType.STRING, "list only those with this hypervisor"),
    optional("resourcestate", ParameterType.STRING, "list only those in this resource state"),
    optional("arch", ParameterType.STRING, "list only those of this architecture"),
    optional(
        "details",
        ParameterType.LIST,
        "accepted, but without effect: rows have all keys",
        choices=_DETAILS,
    ),
)


class ZoneCommands:
    """Zones, hosts and capabilities."""

    def __init__(self, database: Database, expunge: ExpungeConfig) -> None:
        self._database = database
        self._expunge = expunge

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "listZones",
                paged(self._zones),
                "Lists zones.",
                ZoneAnswer,
                "zone",
                ResponseShape.LIST,
                _ZONE_PARAMETERS,
                sortable=("name", "allocationstate"),
                kept=True,
            ),
            Command(
                "listHosts",
                paged(self._hosts),
                "Lists hypervisor hosts, and the agents of system VMs as hosts.",
                HostAnswer,
                "host",
                ResponseShape.LIST,
                _HOST_PARAMETERS,
                roles=ADMIN_ONLY,
                sortable=("name", "state"),
                kept=True,
            ),
            Command(
                "listCapabilities",
                self._capabilities,
                "Lists the capabilities of this cloud.",
                CapabilityAnswer,
                "capability",
            ),
        )

    async def _zones(self, call: ApiCall) -> list[ZoneAnswer]:
        arguments = call.arguments
        rows = await self._database.read(zones.list_zones)
        return [
            zone_answer(zone)
            for zone in rows
            if arguments.get("id", zone.uuid) == zone.uuid
            and zone.uuid in arguments.get("ids", [zone.uuid])
            and arguments.get("name", zone.name) == zone.name
            and arguments.get("networktype", zone.network_type).lower() == zone.network_type.lower()
            and matches_keyword(arguments, zone.name)
        ]

    async def _hosts(self, call: ApiCall) -> list[HostAnswer]:
        arguments = call.arguments
        return [
            host
            for host in await self._database.read(hosts_and_agents)
            if arguments.get("id", host.id) == host.id
            and arguments.get("name", host.name) == host.name
            and arguments.get("type", host.type).lower() == host.type.lower()
            and arguments.get("state", host.state).lower() == host.state.lower()
            and arguments.get("zoneid", host.zoneid) == host.zoneid
            and arguments.get("podid", host.podid) == host.podid
            and arguments.get("clusterid", host.clusterid) == host.clusterid
            and arguments.get("hypervisor", host.hypervisor or "").lower() == (host.hypervisor or "").lower()
            and arguments.get("resourcestate", host.resourcestate).lower() == host.resourcestate.lower()
            and arguments.get("arch", host.arch) == host.arch
            and matches_keyword(arguments, host.name)
        ]

    async def _capabilities(self, call: ApiCall) -> CapabilityAnswer:
        limits = await self._database.read(throttling_limits)
        is_admin = call.principal.is_admin
        rules = await self._database.read(expunge_rules, self._expunge)
        return CapabilityAnswer(
            cloudstackversion=CLOUDSTACK_VERSION,
            systemvmversion=RELEASE,
            securitygroupsenabled=False,
            supportELB="false",
            userpublictemplateenabled=True,
            allowusercreateprojects=False,
            customdiskofferingminsize=1,
            customdiskofferingmaxsize=1024,
            regionsecondaryenabled=False,
            kvmsnapshotenabled=True,
            allowuserviewdestroyedvm=is_admin or rules.allow_user_view_destroyed_vm,
            allowuserexpungerecovervm=is_admin or rules.allow_user_expunge_recover_vm,
            apilimitinterval=limits.interval_s if limits.enabled else None,
            apilimitmax=limits.max_calls if limits.enabled else None,
        )


def zone_answer(zone: zones.Zone) -> ZoneAnswer:
    dns, internal, dns6 = ([*each, None, None] for each in (zone.dns, zone.internal_dns, zone.dns6))
    return ZoneAnswer(
        id=zone.uuid,
        name=zone.name,
        description=zone.description or None,
        networktype=zone.network_type,
        allocationstate=zone.allocation_state,
        dns1=dns[0],
        dns2=dns[1],
        internaldns1=internal[0],
        internaldns2=internal[1],
        ip6dns1=dns6[0],
        ip6dns2=dns6[1],
        domain=zone.network_domain,
        securitygroupsenabled=False,
        localstorageenabled=True,
        type="Core",
    )
