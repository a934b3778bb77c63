# SPDX-License-Identifier: Apache-2.0
"""listVirtualMachines: its parameters, and which rows it returns."""

from __future__ import annotations

from collections.abc import Sequence

from systemvm.management.api.command import ApiCall, ResultPage
from systemvm.management.api.commands.machine_answers import answers_of
from systemvm.management.api.owner_names import OwnerNames, read_names
from systemvm.management.api.ownership import OWNERS, owners_of
from systemvm.management.api.paging import page_window, sort_order
from systemvm.management.api.parameters import Arguments, ParameterType, named_uuids, only, optional
from systemvm.management.api.tag_parameters import TAGGED, wanted_tags
from systemvm.management.api.zone_parts import guest_network_of
from systemvm.management.config import ExpungeConfig
from systemvm.management.configurations.expunge import expunge_rules
from systemvm.management.state import guest_networks, instance_list
from systemvm.management.state.database import Connection
from systemvm.management.state.instance_list import InstanceFilter, Size
from systemvm.management.state.offerings import CUSTOM, ServiceOffering

_DETAILS = (
    *("all", "min", "group", "nics", "stats", "secgrp", "tmpl", "servoff", "diskoff", "backoff", "iso"),
    *("volume", "affgrp"),
)
PARAMETERS = (
    optional("id", ParameterType.UUID, "list only the one with this id"),
    optional("ids", ParameterType.LIST, "list only those with these ids"),
    optional("name", ParameterType.STRING, "list only the one with this name"),
    optional(
        "state",
        ParameterType.STRING,
        "list only those in this state; Present: those that are not destroyed",
    ),
    optional("zoneid", ParameterType.UUID, "list only those of this zone"),
    optional("templateid", ParameterType.UUID, "list only those made from this template"),
    optional("isoid", ParameterType.UUID, "list only those with this ISO"),
    optional("hypervisor", ParameterType.STRING, "list only those of this hypervisor"),
    optional("hostid", ParameterType.UUID, "list only those that run on this host"),
    optional("serviceofferingid", ParameterType.UUID, "list only those of this size"),
    optional("arch", ParameterType.STRING, "list only those of this architecture"),
    TAGGED,
    optional("networkid", ParameterType.UUID, "list only those on this network; see listNetworks"),
    optional(
        "details",
        ParameterType.LIST,
        "accepted, but without effect: rows have all keys",
        choices=_DETAILS,
    ),
    only("displayvm", ParameterType.BOOLEAN, "list those that their users see", True),
    only("haenable", ParameterType.BOOLEAN, "list those with high availability", False),
    only("isvnf", ParameterType.BOOLEAN, "list network functions", False),
    only("showicon", ParameterType.BOOLEAN, "include icons", False),
    *OWNERS,
)


def select(connection: Connection, call: ApiCall, *, file: ExpungeConfig) -> ResultPage:
    """Return the rows of a list's page, where `file` has the daemon's file's rules of destroyed VMs.

    Raises: ApiError 431 for a page that does not exist or an unknown owner.
    """
    window = page_window(call.arguments)
    sees_destroyed = call.principal.is_admin or expunge_rules(connection, file).allow_user_view_destroyed_vm
    which, order = _filter_of(connection, call, sees_destroyed), sort_order(call.arguments)
    found, count = instance_list.page(connection, which, window, order)
    return ResultPage(answers_of(connection, found), count)


def _filter_of(connection: Connection, call: ApiCall, sees_destroyed: bool) -> InstanceFilter:
    arguments, names = call.arguments, read_names(connection)
    state = arguments.text("state")
    is_present = state is not None and state.lower() == "present"  # all that are not destroyed
    host_ids = [host.id for host in names.hosts.values() if host.uuid == arguments.get("hostid")]
    created = _created_network(connection, arguments.text("networkid"))
    sizes, other_sizes = _sizes_of(arguments.text("serviceofferingid"), names.offerings)
    return InstanceFilter(
        owner_ids=owners_of(connection, call).account_ids,
        includes_gone=sees_destroyed and not is_present,
        uuids=named_uuids(arguments),
        name=arguments.text("name"),
        state=None if is_present else state,
        zone_ids=_zone_ids(arguments, names, is_created=created is not None),
        template_uuid=arguments.text("templateid"),
        iso_uuid=arguments.text("isoid"),
        host_id=(host_ids or [0])[0] if "hostid" in arguments else None,
        hypervisor=arguments.text("hypervisor"),
        arch=arguments.text("arch"),
        sizes=sizes,
        other_sizes_than=other_sizes,
        keyword=arguments.text("keyword"),
        tags=wanted_tags(arguments),
        on_network=(created or 0) if "networkid" in arguments else None,
    )


def _created_network(connection: Connection, uuid: str | None) -> int | None:
    """Return the number of a network that createNetwork has made; None for any other id."""
    found = [] if uuid is None else guest_networks.list_networks(connection)
    return next((each.id for each in found if each.uuid == uuid), None)


def _zone_ids(arguments: Arguments, names: OwnerNames, *, is_created: bool) -> frozenset[int] | None:
    """Return the zones that `zoneid` and `networkid` name; None when the call has neither."""
    zones = list(names.zones.values())
    if "zoneid" in arguments:
        zones = [zone for zone in zones if zone.uuid == arguments["zoneid"]]
    if "networkid" in arguments and not is_created:
        zones = [zone for zone in zones if guest_network_of(zone).id == arguments["networkid"]]
    elif "zoneid" not in arguments:
        return None
    return frozenset(zone.id for zone in zones)


def _sizes_of(
    offering_uuid: str | None, known: Sequence[ServiceOffering]
) -> tuple[frozenset[Size] | None, frozenset[Size] | None]:
    """Return the sizes that VMs of an offering have, and those that they do not have; None means any."""
    if offering_uuid is None:
        return None, None
    if offering_uuid == CUSTOM.uuid:
        return None, frozenset(map(_size, known))
    return frozenset(_size(each) for each in known if each.uuid == offering_uuid), None


def _size(offering: ServiceOffering) -> Size:
    return Size(offering.vcpus, offering.memory_mib)
