# SPDX-License-Identifier: Apache-2.0
"""createVlanIpRange, createManagementNetworkIpRange, createStorageNetworkIpRange, and what changes and
deletes these ranges."""

from __future__ import annotations

from systemvm.host.zone import TrafficType
from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.infrastructure import PodAnswer, StorageIpRangeAnswer, VlanIpRangeAnswer
from systemvm.management.api.commands import zone_answers
from systemvm.management.api.commands.model_commands import Done, ModelCommand
from systemvm.management.api.commands.model_parameters import (
    BOOLEAN,
    POD,
    STRING,
    UUID,
    identity,
    ipv6_parameters,
    pod_of,
    subnet_of_either,
    subnet_parameters,
    subnet_parameters_of_either,
)
from systemvm.management.api.commands.range_places import place_of
from systemvm.management.api.parameters import Arguments, optional, required
from systemvm.management.state import address_ranges, pods, zones
from systemvm.management.state.address_ranges import NetworkRange, Span
from systemvm.management.state.database import Connection
from systemvm.management.zone_model import ranges
from systemvm.management.zone_model.guest_networks import check_is_of_network, check_not_last
from systemvm.management.zone_model.ranges import Labels
from systemvm.management.zone_model.refusals import ModelError, invalid
from systemvm.management.zone_model.subnets import (
    ENDS,
    check_untagged,
    read_address,
    read_vlan,
)
from systemvm.management.zone_model.subnets6 import read_address6

_VLAN = optional(
    "vlan",
    STRING,
    "VLAN of the range, one of the label's in host.yaml; by default the network's, or untagged",
)
_UNTAGGED = optional("vlan", STRING, "untagged: management addresses have no VLAN")
_RANGE = identity("range", "listVlanIpRanges")
#: Parameters of updatePodManagementNetworkIpRange, which has no id of the range.
_PRESENT, _NEW = ("currentstartip", "currentendip"), ("newstartip", "newendip")


def _create(connection: Connection, arguments: Arguments, labels: Labels) -> VlanIpRangeAnswer:
    subnet = subnet_of_either(arguments)
    place = place_of(connection, arguments, subnet)
    if place.kind is TrafficType.GUEST and place.vlan is not None:
        check_is_of_network(connection, place.zone, subnet, place.vlan)
    added = ranges.add_range(
        connection,
        place.zone,
        place.kind,
        subnet,
        labels,
        vlan=place.vlan,
        for_system_vms=arguments.flag("forsystemvms", True),
    )
    return zone_answers.range_answer(connection, added, place.zone, _used(connection, added))


def _update(connection: Connection, arguments: Arguments, labels: Labels) -> VlanIpRangeAnswer:
    found = _of_vlan(connection, arguments)
    updated = ranges.update_range(connection, found, labels, *_new_span(found, arguments))
    zone = zones.zone_by_id(connection, found.zone_id)
    return zone_answers.range_answer(connection, updated, zone, _used(connection, updated))


def _used(connection: Connection, of: NetworkRange) -> int:
    return address_ranges.used_counts(connection, [of])[of.id]


def _new_span(found: NetworkRange, arguments: Arguments) -> Span:
    """Return begin and end of a range after its update: of its family, and the present ones by default."""
    version = found.cidr.version
    for name in ENDS[10 - version]:
        if name in arguments:
            hint = f"send {' and '.join(ENDS[version])}"
            why = "beside IPv4, addresses of IPv6 follow from startip and endip"
            raise invalid(
                name, f"is of IPv{10 - version}: {why if version == 4 else 'the range has none'}", hint
            )
    begin, end = ENDS[version]
    read = read_address if version == 4 else read_address6
    first = read(begin, arguments[begin]) if begin in arguments else found.first
    last = read(end, arguments[end]) if end in arguments else found.last
    if first is None or last is None:
        raise invalid(begin, "is missing: the range has no addresses yet", f"send {begin} and {end}")
    return first, last


def _of_vlan(connection: Connection, arguments: Arguments) -> NetworkRange:
    found = address_ranges.by_uuid(connection, arguments["id"])
    if found.traffic_type not in zone_answers.OF_VLANS:
        raise _wrong_kind(found)
    return found


def _wrong_kind(found: NetworkRange) -> ModelError:
    """Return the refusal of a range whose traffic type has commands of its own."""
    hints = {
        TrafficType.STORAGE: "use updateStorageNetworkIpRange or deleteStorageNetworkIpRange",
        TrafficType.MANAGEMENT: "use updatePodManagementNetworkIpRange or deleteManagementNetworkIpRange",
        TrafficType.CONTROL: "change the control network in host.yaml",
    }
    hint = hints.get(found.traffic_type, "use updateVlanIpRange or deleteVlanIpRange")
    return invalid("id", f"is that of a range of {found.traffic_type.value} addresses", hint)


def _delete(connection: Connection, arguments: Arguments, labels: Labels) -> str:
    found = _of_vlan(connection, arguments)
    check_not_last(connection, found)
    ranges.delete_range(connection, found)
    return found.span_text


def _create_management(connection: Connection, arguments: Arguments, labels: Labels) -> PodAnswer:
    check_untagged(arguments.text("vlan"), TrafficType.MANAGEMENT)
    pod = pod_of(connection, arguments)
    zone = zones.zone_by_id(connection, pod.zone_id)
    subnet = subnet_of_either(arguments, needs_span=True)
    ranges.add_range(connection, zone, TrafficType.MANAGEMENT, subnet, labels, pod=pod)
    return zone_answers.pod_answer(connection, pod, zone)


def _update_management(connection: Connection, arguments: Arguments, labels: Labels) -> SuccessAnswer:
    found = _management_range(connection, arguments, _PRESENT)
    names = zip(_NEW, _PRESENT, strict=True)
    first, last = (read_address(new, arguments.get(new, arguments[present])) for new, present in names)
    sent = [name for name in _NEW if name in arguments] or _NEW
    ranges.update_range(connection, found, labels, first, last, (sent[0], sent[-1]))
    return SuccessAnswer(success=True)


def _delete_management(connection: Connection, arguments: Arguments, labels: Labels) -> str:
    check_untagged(arguments.text("vlan"), TrafficType.MANAGEMENT)
    found = _management_range(connection, arguments, ENDS[4])
    ranges.delete_range(connection, found)
    return found.span_text


def _management_range(connection: Connection, arguments: Arguments, ends: tuple[str, str]) -> NetworkRange:
    """Return the range of a pod that begins and ends where the parameters `ends` say."""
    pod = pod_of(connection, arguments)
    first, last = (read_address(name, arguments[name]) for name in ends)
    found = address_ranges.list_ranges(connection, pod.zone_id, TrafficType.MANAGEMENT, pod.id)
    for each in found:
        if (each.first, each.last) == (first, last):
            return each
    known = ", ".join(each.span_text for each in found) or "none"
    raise invalid(ends[0], f"the pod has no range {first}–{last}", f"its ranges: {known}")


def _create_storage(connection: Connection, arguments: Arguments, labels: Labels) -> StorageIpRangeAnswer:
    pod = pod_of(connection, arguments)
    zone = zones.zone_by_id(connection, pod.zone_id)
    vlan = read_vlan(arguments.text("vlan"))
    subnet = subnet_of_either(arguments, needs_span=True)
    added = ranges.add_range(connection, zone, TrafficType.STORAGE, subnet, labels, pod=pod, vlan=vlan)
    return zone_answers.storage_range_answer(added, pod, zone, _used(connection, added))


def _update_storage(connection: Connection, arguments: Arguments, labels: Labels) -> StorageIpRangeAnswer:
    found = _of_storage(connection, arguments)
    updated = ranges.update_range(connection, found, labels, *_new_span(found, arguments))
    pod = None if updated.pod_id is None else pods.pod_by_id(connection, updated.pod_id)
    zone = zones.zone_by_id(connection, found.zone_id)
    return zone_answers.storage_range_answer(updated, pod, zone, _used(connection, updated))


def _of_storage(connection: Connection, arguments: Arguments) -> NetworkRange:
    found = address_ranges.by_uuid(connection, arguments["id"])
    if found.traffic_type is not TrafficType.STORAGE:
        raise _wrong_kind(found)
    return found


def _delete_storage(connection: Connection, arguments: Arguments, labels: Labels) -> str:
    found = _of_storage(connection, arguments)
    ranges.delete_range(connection, found)
    return found.span_text


_SPAN = (
    optional("startip", STRING, "the new first address"),
    optional("endip", STRING, "the new last address"),
    optional("startipv6", STRING, "the new first address of a range of IPv6"),
    optional("endipv6", STRING, "its new last address"),
)
VLAN_RANGES = (
    ModelCommand(
        "createVlanIpRange", "Adds a range of public addresses, or of a guest network.", "IP range",
        "VLAN.IP.RANGE.CREATE", Done.CREATED, _create,
        (
            optional("zoneid", UUID, "UUID of the zone; that of the network by default"),
            optional("networkid", UUID, "UUID of a shared guest network that gets the addresses"),
            optional("physicalnetworkid", UUID, "UUID of the physical network that carries the addresses"),
            *subnet_parameters_of_either(),
            _VLAN,
            optional(
                "forvirtualnetwork", BOOLEAN,
                "true, the default without networkid: public addresses; false: guests'",
            ),
            optional("forsystemvms", BOOLEAN, "false: system VMs have none of these"),
        ),
        VlanIpRangeAnswer, "vlan", related=("listVlanIpRanges", "deleteVlanIpRange"),
        refused=zone_answers.NOT_OF_VLANS,
    ),
    ModelCommand(
        "updateVlanIpRange", "Changes begin and end of a range.", "IP range", "VLAN.IP.RANGE.UPDATE",
        Done.UPDATED, _update, (_RANGE, *_SPAN), VlanIpRangeAnswer, "vlan", related=("listVlanIpRanges",),
    ),
    ModelCommand(
        "deleteVlanIpRange", "Deletes a range of which no address is in use.", "IP range",
        "VLAN.IP.RANGE.DELETE", Done.DELETED, _delete, (_RANGE,), related=("listVlanIpRanges",),
    ),
)  # fmt: skip

POD_RANGES = (
    ModelCommand(
        "createManagementNetworkIpRange", "Adds a range of management addresses to a pod.", "IP range",
        "MANAGEMENT.IP.RANGE.CREATE", Done.CREATED, _create_management,
        (POD, *subnet_parameters(is_span_required=True), *ipv6_parameters(), _UNTAGGED),
        PodAnswer, "pod", is_async=True,
        related=("listPods",),
    ),
    ModelCommand(
        "updatePodManagementNetworkIpRange", "Changes begin and end of a range of management addresses.",
        "IP range", "MANAGEMENT.IP.RANGE.UPDATE", Done.UPDATED, _update_management,
        (
            POD,
            required("currentstartip", STRING, "first address of the range now"),
            required("currentendip", STRING, "last address of the range now"),
            optional("newstartip", STRING, "the new first address; the present one by default"),
            optional("newendip", STRING, "the new last address; the present one by default"),
        ),
        is_async=True, related=("listPods",),
    ),
    ModelCommand(
        "deleteManagementNetworkIpRange", "Deletes a range of management addresses of which none is in use.",
        "IP range", "MANAGEMENT.IP.RANGE.DELETE", Done.DELETED, _delete_management,
        (
            POD,
            required("startip", STRING, "first address of the range"),
            required("endip", STRING, "last address of the range"),
            _UNTAGGED,
        ),
        is_async=True, related=("listPods",),
    ),
    ModelCommand(
        "createStorageNetworkIpRange", "Adds a range of storage addresses to a pod.", "IP range",
        "STORAGE.IP.RANGE.CREATE", Done.CREATED, _create_storage,
        (POD, *subnet_parameters_of_either(), _VLAN),
        StorageIpRangeAnswer, "storagenetworkiprange", is_async=True, related=("listStorageNetworkIpRange",),
    ),
    ModelCommand(
        "updateStorageNetworkIpRange", "Changes begin and end of a range of storage addresses.", "IP range",
        "STORAGE.IP.RANGE.UPDATE", Done.UPDATED, _update_storage,
        (identity("range", "listStorageNetworkIpRange"), *_SPAN),
        StorageIpRangeAnswer, "storagenetworkiprange", is_async=True,
    ),
    ModelCommand(
        "deleteStorageNetworkIpRange", "Deletes a range of storage addresses of which none is in use.",
        "IP range", "STORAGE.IP.RANGE.DELETE", Done.DELETED, _delete_storage,
        (identity("range", "listStorageNetworkIpRange"),), is_async=True,
    ),
)  # fmt: skip

RANGES = (*VLAN_RANGES, *POD_RANGES)
