# SPDX-License-Identifier: Apache-2.0
"""Answers of users' VMs from their rows."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from systemvm.management import os_types
from systemvm.management.api.answers.machines import NicAnswer, VirtualMachineAnswer
from systemvm.management.api.commands.machine_placement import LEGACY
from systemvm.management.api.commands.tags import tag_answers
from systemvm.management.api.owner_names import OwnerNames, read_names
from systemvm.management.api.zone_parts import ZonePart, guest_network_of
from systemvm.management.state import guest_networks, instances, tags, templates
from systemvm.management.state.database import Connection
from systemvm.management.state.guest_networks import GuestNetwork
from systemvm.management.state.instances import Instance, Nic
from systemvm.management.state.offerings import CPU_MHZ, of_vm
from systemvm.management.state.status import GuestType, InstanceState
from systemvm.management.state.tags import Tag
from systemvm.management.state.templates import Template
from systemvm.management.state.zones import Zone


def answers_of(connection: Connection, found: list[Instance]) -> list[VirtualMachineAnswer]:
    nics = instances.nics_by_vm(connection, [vm.id for vm in found])
    names = read_names(connection)
    images = {number for vm in found for number in (vm.template_id, vm.iso_id) if number is not None}
    sources = templates.by_ids(connection, images)
    tagged = tags.of_objects(connection, [vm.uuid for vm in found])
    networks = _networks_of(connection, [nic for of_vm in nics.values() for nic in of_vm])
    return [_answer(vm, nics[vm.id], names, sources, tagged.get(vm.uuid, ()), networks) for vm in found]


def answer_for(connection: Connection, vm: Instance) -> VirtualMachineAnswer:
    [answer] = answers_of(connection, [vm])
    return answer


def _answer(
    vm: Instance,
    nics: list[Nic],
    names: OwnerNames,
    sources: dict[int, Template],
    tagged: Sequence[Tag],
    networks: dict[int, GuestNetwork],
) -> VirtualMachineAnswer:
    account, domain = names.accounts[vm.account_id], names.domains[vm.domain_id]
    zone = names.zone(vm.zone_id)
    host = names.host(vm.host_id) if vm.state.has_process or not vm.is_driven else None
    template, iso = sources.get(vm.template_id or 0), sources.get(vm.iso_id or 0)
    offering = of_vm(vm, names.offerings)
    os_type = os_types.of_row(template.os_type) if template else None
    return VirtualMachineAnswer(
        id=vm.uuid,
        tags=tag_answers(tagged, names),
        name=vm.name,
        displayname=vm.shown_name,
        instancename=vm.instance_name,
        state=vm.state.value,
        reason=vm.reason,
        hint=vm.hint,
        account=account.name,
        domainid=domain.uuid,
        domain=domain.name,
        created=vm.created,
        zoneid=zone.uuid if zone else None,
        zonename=zone.name if zone else None,
        hostid=host.uuid if host else None,
        hostname=host.name if host else None,
        hypervisor=vm.hypervisor,
        powerstate=None if vm.is_driven else _power_of(vm),
        templateid=template.uuid if template else None,  # also the ISO that it was deployed from
        templatename=template.name if template and not template.is_iso else None,
        templatedisplaytext=template.display_text if template and not template.is_iso else None,
        isoid=iso.uuid if iso else None,
        isoname=iso.name if iso else None,
        isodisplaytext=iso.display_text if iso else None,
        serviceofferingid=offering.uuid,
        serviceofferingname=offering.name,
        cpunumber=vm.vcpus,
        cpuspeed=CPU_MHZ,
        memory=vm.memory_mib,
        rootdeviceid=0,
        rootdevicetype="ROOT",
        haenable=False,
        passwordenabled=template is not None and template.password_enabled,
        displayvm=True,
        isdynamicallyscalable=False,
        arch=vm.arch,
        # CloudStack answers them in another case than it takes them in
        boottype=vm.boot_type.value.capitalize() if vm.is_driven else None,
        bootmode=LEGACY.lower() if vm.is_driven else None,
        ostypeid=os_type.id if os_type else None,
        guestosid=os_type.id if os_type else None,
        osdisplayname=os_type.name if os_type else None,
        deleteprotection=False,
        affinitygroup=[],
        securitygroup=[],
        details=vm.details or None,
        nic=[_nic(nic, zone, networks) for nic in nics],
    )


def nic_answers(connection: Connection, vm: Instance) -> list[NicAnswer]:
    zone = read_names(connection).zone(vm.zone_id)
    nics = instances.nics_of(connection, vm.id)
    networks = _networks_of(connection, nics)
    return [evolve(_nic(nic, zone, networks), virtualmachineid=vm.uuid) for nic in nics]


def _networks_of(connection: Connection, nics: list[Nic]) -> dict[int, GuestNetwork]:
    numbers = {nic.guest_network_id for nic in nics}
    return guest_networks.by_ids(connection, numbers) if numbers - {None} else {}


def _power_of(vm: Instance) -> str:
    """Return CloudStack's name of a power state."""
    return "PowerOn" if vm.state is InstanceState.RUNNING else "PowerOff"


def _nic(nic: Nic, zone: Zone | None, networks: dict[int, GuestNetwork]) -> NicAnswer:
    network = guest_network_of(zone) if zone is not None else None
    guest_type = GuestType.SHARED
    if nic.guest_network_id is not None:
        created = networks[nic.guest_network_id]
        network, guest_type = ZonePart(created.uuid, created.name), created.guest_type
    return NicAnswer(
        id=nic.uuid,
        deviceid=str(nic.device),
        networkid=network.id if network else None,
        networkname=network.name if network else None,
        traffictype=nic.traffic_type.capitalize(),
        macaddress=nic.mac,
        ipaddress=nic.address,
        netmask=nic.netmask,
        gateway=nic.gateway,
        isdefault=nic.device == 0,
        type=guest_type.value,
        secondaryip=[],
    )
