# SPDX-License-Identifier: Apache-2.0
"""Where a VM runs, and its firmware: hostid, clusterid, podid, boottype and bootmode.

A daemon runs VMs on its own host only, so that a place is accepted when it is that host's.
"""

from __future__ import annotations

from systemvm.host.architecture import Architecture
from systemvm.management.api.command import ApiCall
from systemvm.management.api.errors import parameter_error, unauthorized
from systemvm.management.api.parameters import Arguments, ParameterType, optional
from systemvm.management.state import instances, pods, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import BootType
from systemvm.management.state.templates import Template
from systemvm.management.state.zones import Host, Zone
from systemvm.management.zone_model.disabled_places import disabled_place

LEGACY, SECURE = "LEGACY", "SECURE"

PARAMETERS = (
    optional("hostid", ParameterType.UUID, "the host that it runs on; for root administrators"),
    optional("clusterid", ParameterType.UUID, "the cluster of its host; for root administrators"),
    optional("podid", ParameterType.UUID, "the pod of its host; for root administrators"),
)


def check_place(connection: Connection, call: ApiCall, host: Host) -> None:
    """Check that a call names no other place than `host`, the host of this daemon.

    Raises: ApiError 401, with CloudStack's message, for another caller than a root administrator; 431 for
    another place.
    """
    asked = {name: call.arguments.text(name) for name in ("hostid", "clusterid", "podid")}
    for name, uuid in asked.items():
        if uuid is not None and not call.principal.is_admin:
            raise unauthorized(
                f"Parameter {name} can only be specified by a Root Admin, permission denied", parameter=name
            )
    if asked["hostid"] not in (None, host.uuid):
        raise parameter_error(
            "hostid",
            f"Invalid value for parameter hostid: {_why_not(connection, asked['hostid'] or '')}",
            f"omit it, or send {host.uuid} for {host.name}",
        )
    cluster = None if host.cluster_id is None else pods.cluster_by_id(connection, host.cluster_id)
    pod = None if cluster is None else pods.pod_by_id(connection, cluster.pod_id)
    for name, part in (("clusterid", cluster), ("podid", pod)):
        if asked[name] not in (None, part.uuid if part else None):
            raise parameter_error(
                name,
                f"Invalid value for parameter {name}: host {host.name}, which runs the VMs, is not there",
                f"omit it, or send {part.uuid} for {part.name}" if part else "omit it",
            )


def check_enabled(connection: Connection, call: ApiCall, zone: Zone, host: Host, parameter: str) -> None:
    """Check that VMs of a zone are started on a host.

    Raises: ApiError 431 about `parameter` when the zone, or the pod or cluster of the host, is Disabled.
    """
    found = disabled_place(connection, zone, host.id)
    if found is None:
        return
    if call.principal.is_admin:
        what, hint = f"{found.noun} {found.name} is Disabled", f"enable it with {found.command}"
    else:
        what, hint = f"no VMs are started in zone {zone.name} now", "try later, or ask an administrator"
    raise parameter_error(parameter, f"Invalid value for parameter {parameter}: {what}", hint)


def _why_not(connection: Connection, uuid: str) -> str:
    """Return why no VM can be placed on what has this id."""
    try:
        host = zones.host_by_uuid(connection, uuid)
    except NotFoundError:
        agent = next((vm for vm in instances.list_system(connection) if vm.uuid == uuid), None)
        if agent is not None:
            return f"{agent.instance_name} is a system VM, and no host of VMs"
        return f"there is no host with the id {uuid}"
    if host.is_driven:
        return f"host {host.name} has a management daemon of its own"
    return f"host {host.name} of {host.hypervisor} is registered for consoles of its VMs only"


def check_architecture(image: Template, zone: Zone, host: Host) -> None:
    """Check that a host runs VMs of an image's architecture: its own, and that of the zone.

    Raises: ApiError 431 when it does not.
    """
    known = [arch for arch in (host.arch, zone.arch) if arch is not None]
    if image.arch is not None and known and image.arch not in known:
        raise parameter_error(
            "templateid",
            f"Invalid value for parameter templateid: {image.name} is for {image.arch}, and host {host.name}"
            f" of zone {zone.name} runs {' and '.join(dict.fromkeys(known))}",
            "choose a template of that architecture; see listTemplates with arch",
        )


def boot_type_of(arguments: Arguments, image: Template, host: Host) -> BootType:
    """Return the firmware that is asked for, else the one that VMs of the image's architecture have.

    Raises: ApiError 431 for one that this host or the architecture does not have.
    """
    if arguments.text("bootmode") == SECURE:
        raise parameter_error(
            "bootmode",
            "Invalid value for parameter bootmode: SECURE needs Secure Boot's keys in the VM's firmware,"
            " which no VM here has",
            f"omit it, or send {LEGACY}",
        )
    arch = Architecture.of(image.arch)
    asked = arguments.text("boottype")
    if arch is Architecture.ARM64:
        if asked == BootType.BIOS.value:
            raise parameter_error(
                "boottype",
                f"Invalid value for parameter boottype: {image.name} is for {arch.machine_name},"
                " which has no BIOS",
                f"omit it, or send {BootType.UEFI.value}",
            )
        return BootType.UEFI
    boot_type = BootType(asked or BootType.BIOS.value)
    if boot_type is BootType.UEFI and not host.has_uefi:
        raise parameter_error(
            "boottype",
            f"Invalid value for parameter boottype: host {host.name} has no firmware for UEFI",
            f"install Debian's {arch.uefi_package} there and restart systemvm-managementd, or send"
            f" {BootType.BIOS.value}",
        )
    return boot_type
