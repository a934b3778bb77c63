# SPDX-License-Identifier: Apache-2.0
"""Builds the machine of a user's VM: its disk on primary storage, its ISO, config drive and VNC server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from attrs import field, frozen
from twisted.internet.threads import deferToThread

from systemvm.host.architecture import Architecture
from systemvm.management.guest_networks.machine_data import config_drive_of
from systemvm.management.hypervisors.base import Disk, DomainNic, DomainSpec, Uefi, VncSpec
from systemvm.management.hypervisors.data_disks import DataDisk
from systemvm.management.hypervisors.vnc_password import new_vnc_password
from systemvm.management.image_stores.staging import Staging
from systemvm.management.pki.seal import Seal
from systemvm.management.primary.pools import StorageByPool
from systemvm.management.primary.qemu_img import DiskFormat
from systemvm.management.primary.storage import TemplateFormat
from systemvm.management.primary.uefi_variables import UefiVariables
from systemvm.management.state import instances, templates, volumes, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance, Nic
from systemvm.management.state.status import BootType, Provisioning, SpoolState, VolumeState
from systemvm.management.state.templates import SpoolRef, StoreRef, Template
from systemvm.management.state.volumes import Volume
from systemvm.management.state.zones import ImageStore
from systemvm.management.virtual_machines.errors import MachineError
from systemvm.wire.storage import ImageFormat

#: Formats of secondary storage, as primary storage names them; all but RAW become qcow2 there.
_SOURCE_FORMATS: dict[ImageFormat, TemplateFormat] = {
    ImageFormat.QCOW2: "qcow2",
    ImageFormat.RAW: "raw",
    ImageFormat.ISO: "iso",
    ImageFormat.VHD: "vhd",
    ImageFormat.VHDX: "vhdx",
    ImageFormat.VMDK: "vmdk",
    ImageFormat.OVA: "ova",
}


class DiskStorage(Protocol):
    """The part of primary storage that serves VMs."""

    async def ensure_template(
        self, template_uuid: str, source: Path, template_format: TemplateFormat
    ) -> Path: ...
    def volume_path(self, volume_uuid: str) -> Path: ...
    async def create_clone(
        self, volume_uuid: str, backing: Path, backing_format: DiskFormat, size_bytes: int | None = None
    ) -> Path: ...
    async def create_empty(
        self, volume_uuid: str, size_bytes: int, provisioning: Provisioning = Provisioning.THIN
    ) -> Path: ...
    async def import_volume(
        self,
        volume_uuid: str,
        source: Path,
        source_format: DiskFormat,
        size_bytes: int | None,
        provisioning: Provisioning = Provisioning.THIN,
    ) -> Path: ...
    async def base_of(self, volume_uuid: str) -> Path | None: ...
    async def delete_volume(self, volume_uuid: str) -> None: ...


@frozen
class TemplateFile:
    """The file of a Ready template or ISO on secondary storage, as this host reads it."""

    template: Template
    ref: StoreRef
    store: ImageStore

    @property
    def path(self) -> Path:
        if self.store.host_path is None:
            raise MachineError(
                f"image store {self.store.name} cannot be read on this host",
                "set host_path of the store in the zone's file to the mount point of the export",
            )
        if not self.ref.install_path:
            raise MachineError(f"{self.template.name} has no file on {self.store.name}", "register it again")
        root = Path(self.store.host_path)
        path = root / self.ref.install_path
        # The path comes from an SSVM, so it is not trusted.
        if not path.resolve().is_relative_to(root.resolve()):
            raise MachineError(f"path of {self.template.name} leaves its store", "register it again")
        return path


@frozen
class ImageCopy:
    """A copy of a template or ISO on primary storage, which need not exist yet."""

    template_id: int
    pool_id: int | None  # None: the host's own directory


@frozen
class MachineRows:
    """The rows that describe a machine."""

    nics: list[Nic]
    volume: Volume
    data: list[Volume]
    template: Template | None
    iso: Template | None


@frozen
class BuiltUserVm:
    """A machine that is ready to start, and its VNC password."""

    spec: DomainSpec
    vnc_password: str = field(repr=False)


class UserVmBuilder:
    """Makes the disk of a VM at its first start, and its `DomainSpec` at every start."""

    def __init__(
        self,
        database: Database,
        primary: StorageByPool[DiskStorage],
        logs: Path,
        vnc_address: Callable[[str], str],
        seal: Seal,
        *,
        host_id: int,
        staging: Staging,
        variables: UefiVariables,
    ) -> None:
        self._variables = variables
        self._staging = staging
        self._database = database
        self._primary = primary
        self._logs = logs
        self._vnc_address = vnc_address  # by zone name: of its VMs' VNC servers
        self._seal = seal
        self._host_id = host_id

    async def build(self, vm: Instance) -> BuiltUserVm:
        parts = await self._database.read(_parts, vm)
        zone = await self._database.read(zones.zone_by_id, vm.zone_id)
        disk = await self._disk(parts)
        password = new_vnc_password()
        arch = Architecture.of(vm.arch)
        spec = DomainSpec(
            name=vm.instance_name,
            uuid=vm.uuid,
            memory_mib=vm.memory_mib,
            vcpus=vm.vcpus,
            nics=[DomainNic(nic.traffic_type, nic.bridge, nic.mac, nic.vlan) for nic in parts.nics],
            serial_log=self._logs / f"{vm.instance_name}.log",
            disk=Disk(disk),
            data_disks=[await self._data_disk(vm, volume) for volume in parts.data],
            cdrom=await self._on_primary(parts.iso) if parts.iso else None,
            config_drive=await self._config_drive(vm),
            # Port 0: the driver takes a free one at every start.
            vnc=VncSpec(self._vnc_address(zone.name), 0, password),
            arch=arch,
            uefi=await self._uefi(parts.volume, arch) if vm.boot_type is BootType.UEFI else None,
        )
        return BuiltUserVm(spec, password)

    async def copy_template(self, template_id: int) -> None:
        """Copy a template to each pool in which disks are still to be cloned from it."""
        template = await self._database.read(templates.by_id, template_id)
        for pool_id in await self._database.read(templates.waiting_pools, template_id):
            await self._on_primary(template, pool_id)

    async def missing_copies(self, vm: Instance) -> list[ImageCopy]:
        """Return the copies that a start of a VM needs, and that are not made yet or were removed.

        Raises: MachineError when one that was removed cannot be made again.
        """
        needed = await self._database.read(_needed_copies, vm)
        missing = [copy for copy in needed if await _present_copy(await self._spool_of(copy)) is None]
        return list(dict.fromkeys((*missing, *await self._removed_bases(vm))))

    async def _removed_bases(self, vm: Instance) -> list[ImageCopy]:
        """Return the copies that disks of a VM are clones of, and that are gone."""
        removed: list[ImageCopy] = []
        for volume, copy, base in await self._database.read(_bases, vm, self._host_id):
            if await deferToThread(base.exists):
                continue
            storage = await self._primary.of(copy.pool_id)
            disk = storage.volume_path(volume.uuid)
            if not await deferToThread(disk.exists) or await storage.base_of(volume.uuid) != base:
                continue  # a disk that was moved or restored has no base
            template = await self._database.read(templates.by_id, copy.template_id)
            try:
                await self._database.read(_source, template, self._host_id)
            except MachineError:
                raise MachineError(
                    f"base of volume {volume.name} is missing on primary storage: {base}",
                    f"restore the file from a backup: {template.name} is on no image store any more",
                ) from None
            removed.append(copy)
        return removed

    async def prepare(self, copy: ImageCopy) -> None:
        """Make a copy, before a disk is cloned from it or a machine has it as its ISO."""
        await self._on_primary(await self._database.read(templates.by_id, copy.template_id), copy.pool_id)

    async def copy_iso(self, iso_id: int) -> Path:
        """Return the copy of an ISO on this host; make it at its first use."""
        return await self._on_primary(await self._database.read(templates.by_id, iso_id))

    async def clone_template(self, template_id: int, volume_uuid: str, pool_id: int | None) -> Path:
        """Create the disk of a volume as a clone of a template, whatever size that has."""
        template = await self._database.read(templates.by_id, template_id)
        backing = await self._on_primary(template, pool_id)
        storage = await self._primary.of(pool_id)
        return await storage.create_clone(volume_uuid, backing, _backing_format(template))

    async def delete_disk(self, vm: Instance) -> None:
        volume = await self._database.read(volumes.root_of, vm.id)
        if volume is not None:
            await self.delete_file(volume)

    async def _uefi(self, root: Volume, arch: Architecture) -> Uefi:
        return Uefi(arch.uefi_code, await deferToThread(self._variables.ensure, root.uuid, arch))

    async def _config_drive(self, vm: Instance) -> bytes | None:
        drive = await self._database.read(config_drive_of, vm.id, self._seal)
        return None if drive is None else await deferToThread(drive.image)

    async def _data_disk(self, vm: Instance, volume: Volume) -> DataDisk:
        path = (await self._primary.of(volume.pool_id)).volume_path(volume.uuid)
        if volume.device_id is None or not await deferToThread(path.exists):
            raise MachineError(
                f"volume {volume.name} of {vm.name} is missing on primary storage: {path}",
                "restore the file, or detach the volume",
            )
        return DataDisk(volume.uuid, path, volume.device_id)

    async def _disk(self, parts: MachineRows) -> Path:
        """Return the existing disk or, at the first start, one of the template or an empty one."""
        volume = parts.volume
        storage = await self._primary.of(volume.pool_id)
        if volume.state is VolumeState.READY:
            path = storage.volume_path(volume.uuid)
            if not await deferToThread(path.exists):
                raise MachineError(f"disk {path} is missing", "deploy the VM again")
            return path
        path = await self.make_root(volume, parts.template)
        await self._database.run(volumes.update, volume.id, state=VolumeState.READY, path=str(path))
        return path

    async def make_root(self, volume: Volume, template: Template | None) -> Path:
        """Create the file of a root disk, of a template or empty, or replace it."""
        if template is None:
            storage = await self._primary.of(volume.pool_id)
            return await storage.create_empty(volume.uuid, volume.size_bytes or 0, volume.provisioning)
        backing = await self._on_primary(template, volume.pool_id)
        storage = await self._primary.of(volume.pool_id)
        disk = (volume.uuid, backing, _backing_format(template), volume.size_bytes)
        if volume.provisioning is Provisioning.THIN:
            return await storage.create_clone(*disk)
        return await storage.import_volume(*disk, volume.provisioning)

    async def delete_file(self, volume: Volume) -> None:
        """Delete the file of a root disk, and its UEFI variables."""
        await self.delete_variables(volume)
        await (await self._primary.of(volume.pool_id)).delete_volume(volume.uuid)

    async def delete_variables(self, volume: Volume) -> None:
        await deferToThread(self._variables.delete, volume.uuid)

    async def _spool_of(self, copy: ImageCopy) -> SpoolRef:
        return await self._database.run(templates.spool_ref, copy.template_id, self._host_id, copy.pool_id)

    async def _on_primary(self, template: Template, pool_id: int | None = None) -> Path:
        """Return the template's copy in a pool, or on this host without one; make it at its first use there.

        Afterwards neither the template nor its image store is needed.
        """
        spool = await self._spool_of(ImageCopy(template.id, pool_id))
        if (copy := await _present_copy(spool)) is not None:
            return copy
        if spool.state is not SpoolState.READY:
            await self._database.run(templates.update_spool_ref, spool.id, state=SpoolState.COPYING)
        try:
            source = await self._database.read(_source, template, self._host_id)
            if source.store.is_bucket:
                await self._staging.ensure(template.id, source.store.zone_id, for_host=True)
                source = await self._database.read(_source, template, self._host_id)
            storage = await self._primary.of(pool_id)
            path = await storage.ensure_template(template.uuid, source.path, _source_format(template))
        except Exception as error:
            await self._database.run(
                templates.update_spool_ref, spool.id, state=SpoolState.ERROR, error_text=str(error)
            )
            raise
        if (spool.state, spool.path) != (SpoolState.READY, str(path)):  # its directory can have moved
            await self._database.run(
                templates.update_spool_ref, spool.id, state=SpoolState.READY, path=str(path), error_text=None
            )
        return path


def _parts(connection: Connection, vm: Instance) -> MachineRows:
    volume = volumes.root_of(connection, vm.id)
    if volume is None:
        raise MachineError(f"{vm.name} has no disk", "destroy it and deploy another one")
    needs_template = volume.state is not VolumeState.READY
    return MachineRows(
        nics=instances.nics_of(connection, vm.id),
        volume=volume,
        data=volumes.data_of(connection, vm.id),
        template=_template(connection, volume.template_id) if needs_template else None,
        iso=_template(connection, vm.iso_id),
    )


def _needed_copies(connection: Connection, vm: Instance) -> list[ImageCopy]:
    root = volumes.root_of(connection, vm.id)
    needed = [] if vm.iso_id is None else [ImageCopy(vm.iso_id, None)]
    if root is not None and root.state is not VolumeState.READY and root.template_id is not None:
        needed.append(ImageCopy(root.template_id, root.pool_id))
    return needed


def _bases(connection: Connection, vm: Instance, host_id: int) -> list[tuple[Volume, ImageCopy, Path]]:
    """Return the disks of a VM of whose template its pool has a copy, with that copy and its path."""
    root = volumes.root_of(connection, vm.id)
    found: list[tuple[Volume, ImageCopy, Path]] = []
    for volume in [*([root] if root else []), *volumes.data_of(connection, vm.id)]:
        if volume.state is not VolumeState.READY or volume.template_id is None:
            continue
        path = templates.path_of_copy(connection, volume.template_id, host_id, volume.pool_id)
        if path is not None:
            found.append((volume, ImageCopy(volume.template_id, volume.pool_id), Path(path)))
    return found


def _template(connection: Connection, template_id: int | None) -> Template | None:
    return None if template_id is None else templates.by_id(connection, template_id)


async def _present_copy(spool: SpoolRef) -> Path | None:
    path = Path(spool.path) if spool.state is SpoolState.READY and spool.path else None
    return path if path is not None and await deferToThread(path.exists) else None


def _source_format(template: Template) -> TemplateFormat:
    try:
        return _SOURCE_FORMATS[template.format]
    except KeyError:
        raise MachineError(f"{template.name} is not a disk image", "deploy from a template") from None


def _backing_format(template: Template) -> DiskFormat:
    """Return the format of a template's copy on primary storage."""
    return "raw" if template.format is ImageFormat.RAW else "qcow2"


def _source(connection: Connection, template: Template, host_id: int) -> TemplateFile:
    zone_id = zones.host_by_id(connection, host_id).zone_id
    ref = templates.store_ref_of(connection, template.id, zone_id)
    if ref is None or not ref.is_ready:
        kind = "ISO" if template.is_iso else "template"
        raise MachineError(f"{kind} {template.name} is no longer ready", "deploy from another one")
    return TemplateFile(template, ref, zones.store_by_id(connection, ref.store_id))
