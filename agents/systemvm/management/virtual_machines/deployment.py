# SPDX-License-Identifier: Apache-2.0
"""Creates the rows of a new virtual machine in one transaction."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence

from attrs import field, frozen

from systemvm.host.guest_services import RESERVED_NAMES
from systemvm.management.guest_networks.nics import WantedNic, add_guest_nics
from systemvm.management.resource_limits import limits
from systemvm.management.state import (
    accounts,
    events,
    instances,
    machine_data,
    machine_passwords,
    templates,
    volumes,
)
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.instances import Instance
from systemvm.management.state.resource_counts import ResourceType
from systemvm.management.state.status import BootType, InstanceState, InstanceType, Provisioning
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.virtual_machines.errors import NotDeployableError
from systemvm.management.volumes.pool_choice import PoolWish
from systemvm.wire.storage import ImageFormat

GIB = 1024**3
#: The empty disk of a machine that boots an ISO, unless its user wants another size.
ISO_DISK_BYTES = 8 * GIB
MAX_DISK_BYTES = 1024 * GIB

_HOST_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


@frozen
class Deployment:
    """The request of a user; ids are of existing rows."""

    template_id: int
    zone_id: int
    host_id: int
    account_id: int
    domain_id: int
    user_id: int
    vcpus: int
    memory_mib: int
    bridge: str
    name: str | None = None
    display_name: str | None = None
    keyboard: str | None = None  # the layout that its guest will have
    boot_type: BootType = BootType.BIOS
    disk_bytes: int | None = None
    should_run: bool = True
    place: PoolWish | None = None  # of its disk; None: the host's own directory
    provisioning: Provisioning = Provisioning.THIN
    details: Mapping[str, str] = field(factory=dict)  # kept and shown, without effect
    nics: Sequence[WantedNic] = (WantedNic(),)
    user_data: bytes = field(default=b"", repr=False)
    sealed_password: bytes | None = field(default=None, repr=False)


def root_disk_bytes(connection: Connection, template_id: int, zone_id: int, disk_bytes: int | None) -> int:
    """Return the virtual size that the root disk of a new machine will have."""
    template = templates.by_id(connection, template_id)
    ref = templates.store_ref_of(connection, template.id, zone_id)
    return disk_bytes or (ISO_DISK_BYTES if template.is_iso else (ref.virtual_size_bytes if ref else 0) or 0)


def deploy(connection: Connection, deployment: Deployment) -> Instance:
    """Create the rows of a Stopped machine, its NIC and its disk.

    Raises: NotDeployableError when the request is invalid, ResourceLimitError, NoPoolError; no row is created
    then.
    """
    _check_owner(connection, deployment.account_id)
    template = templates.by_id(connection, deployment.template_id)
    ref = templates.store_ref_of(connection, template.id, deployment.zone_id)
    check_ready(template, ref)
    _check_disk_size(deployment.disk_bytes, ref)
    _check_name(connection, deployment)
    disk_bytes = root_disk_bytes(connection, template.id, deployment.zone_id, deployment.disk_bytes)
    _check_limits(connection, deployment, disk_bytes)
    place = deployment.place
    pool_id = place.take(connection, disk_bytes, deployment.provisioning) if place else None
    vm = instances.create(
        connection,
        InstanceType.USER,
        account_id=deployment.account_id,
        domain_id=deployment.domain_id,
        zone_id=deployment.zone_id,
        host_id=deployment.host_id,
        name=deployment.name or "",
        display_name=deployment.display_name,
        keyboard=deployment.keyboard,
        boot_type=deployment.boot_type,
        details=dict(deployment.details),
        arch=template.arch,
        template_id=template.id,  # as CloudStack has it, also of an ISO, which can be detached
        iso_id=template.id if template.is_iso else None,
        vcpus=deployment.vcpus,
        memory_mib=deployment.memory_mib,
        state=InstanceState.STOPPED,
        wanted=deployment.should_run,
    )
    machine_data.put_user_data(connection, vm.id, deployment.user_data)
    if deployment.sealed_password is not None:
        machine_passwords.put(connection, vm.id, deployment.sealed_password)
    add_guest_nics(connection, vm, deployment.nics, bridge=deployment.bridge, mac=random_mac)
    volumes.create(
        connection,
        name=f"ROOT-{vm.id}",
        account_id=deployment.account_id,
        domain_id=deployment.domain_id,
        vm_id=vm.id,
        zone_id=deployment.zone_id,
        host_id=deployment.host_id,
        pool_id=pool_id,
        provisioning=deployment.provisioning,
        template_id=None if template.is_iso else template.id,
        size_bytes=deployment.disk_bytes or (ISO_DISK_BYTES if template.is_iso else None),
    )
    events.record(
        connection,
        "VM.CREATE",
        f"{vm.name} is deployed from {template.name}",
        account_id=deployment.account_id,
        domain_id=deployment.domain_id,
        user_id=deployment.user_id,
        zone_id=deployment.zone_id,
        resource_type="VirtualMachine",
        resource_uuid=vm.uuid,
    )
    return vm


def _check_owner(connection: Connection, account_id: int) -> None:
    """Apply CloudStack's rule, with its message (UserVmManagerImpl.createVirtualMachine)."""
    owner = accounts.account_by_id(connection, account_id)
    if not owner.may_run_machines:
        raise NotDeployableError(
            f"The owner of vm to deploy is disabled: {owner.name}",
            "enable the account, or use another one",
            parameter="account",
        )


def check_ready(template: Template, ref: StoreRef | None) -> None:
    kind = "ISO" if template.is_iso else "Template"
    if template.removed is not None:
        raise NotDeployableError(f"{kind} {template.name} was deleted", parameter="templateid")
    if ref is None or not ref.is_ready:
        raise NotDeployableError(
            f"{kind} {template.name} is not ready",
            "wait until its download is complete",
            parameter="templateid",
        )
    if template.format is ImageFormat.TAR:
        raise NotDeployableError(
            f"Template {template.name} is an archive and not a disk",
            "deploy from a template with a disk",
            parameter="templateid",
        )
    if template.is_iso and not template.bootable:
        raise NotDeployableError(
            f"ISO {template.name} is not bootable", "register it with bootable=true", parameter="templateid"
        )


def _check_disk_size(disk_bytes: int | None, ref: StoreRef | None) -> None:
    """A disk is a clone of its template and never smaller (UserVmManagerImpl.configureCustomRootDiskSize)."""
    template_bytes = (ref.virtual_size_bytes if ref else None) or 0
    if disk_bytes is not None and disk_bytes < template_bytes:
        needed_gib = -(-template_bytes // GIB)
        raise NotDeployableError(
            f"Unsupported: rootdisksize override ({disk_bytes // GIB} GiB) is smaller than template size"
            f" ({template_bytes / GIB:.2f} GiB)",
            f"omit rootdisksize, or set it to at least {needed_gib}",
            parameter="rootdisksize",
        )


def _check_limits(connection: Connection, deployment: Deployment, disk_bytes: int) -> None:
    new = {
        ResourceType.user_vm: 1,
        ResourceType.cpu: deployment.vcpus,
        ResourceType.memory: deployment.memory_mib,
        ResourceType.volume: 1,
        ResourceType.primary_storage: disk_bytes,
    }
    limits.check(connection, deployment.account_id, new)


def _check_name(connection: Connection, deployment: Deployment) -> None:
    name = deployment.name
    if name is None:
        return
    if not _HOST_NAME.fullmatch(name):
        raise NotDeployableError(
            f"Invalid name {name[:64]!r}: it is not a host name",
            "use at most 63 letters, digits and hyphens; begin with a letter and do not end with a hyphen",
            parameter="name",
        )
    if name.lower() in RESERVED_NAMES:
        raise NotDeployableError(
            f"Invalid name {name!r}: it has a meaning in the guest network's DNS or DHCP",
            "choose another name",
            parameter="name",
        )
    if instances.is_host_name_taken(connection, deployment.account_id, name):
        raise NotDeployableError(
            f"A virtual machine named {name} exists already", "choose another name", parameter="name"
        )


def random_mac() -> str:
    """Return a locally administered address; 40 random bits make a collision on a bridge unlikely."""
    return f"02:{secrets.token_bytes(5).hex(':')}"


def mark_expunged(connection: Connection, vm: Instance) -> None:
    """Mark a machine and its disk as removed; their rows stay as history, without its user data and
    its password.
    """
    volume = volumes.root_of(connection, vm.id)
    if volume is not None:
        volumes.remove(connection, volume.id)
    volumes.release_data_of(connection, vm.id)
    machine_data.put_user_data(connection, vm.id, b"")
    machine_passwords.delete(connection, vm.id)
    instances.remove(connection, vm.id, InstanceState.EXPUNGING)
    instances.update(connection, vm.id, sealed_vnc_password=None, wanted=False, updated=now())
