# SPDX-License-Identifier: Apache-2.0
"""Builds the machine of a system VM: its image, its disk, its fresh credentials."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from attrs import field, frozen
from twisted.logger import Logger

from systemvm.host.architecture import Architecture
from systemvm.management.hypervisors.base import Disk, DomainNic, DomainSpec, VncSpec
from systemvm.management.hypervisors.vnc_password import new_vnc_password
from systemvm.management.pki.control import ControlAuthority
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.primary.storage import PrimaryStorage
from systemvm.management.primary.system_images import SystemImage, SystemImages
from systemvm.management.state.instances import Instance, Nic
from systemvm.management.system_vms.boot_arguments import ROLES, BootFacts, cmdline
from systemvm.wire import boot_arguments
from systemvm.wire.role import Role


class ImageSource(Protocol):
    """Finds the image that a role boots from."""

    async def current(self, role: Role, arch: Architecture = Architecture.AMD64) -> SystemImage: ...


class SystemImageSource:
    """The images of this host; the newest build is imported first."""

    _log = Logger()

    def __init__(self, images: SystemImages, source: Path) -> None:
        self._images = images
        self._source = source

    async def current(self, role: Role, arch: Architecture = Architecture.AMD64) -> SystemImage:
        """Return the image of the newest build, else the newest imported one.

        Raises: PrimaryStorageError when there is neither.
        """
        manifest = self._source / f"{arch.image_name(role.value)}.manifest.json"
        try:
            return await self._images.import_image(manifest)
        except PrimaryStorageError as error:
            known = [
                image
                for image in self._images.all()
                if image.role == role.value and image.manifest.arch == arch.value
            ]
            if not known:
                raise
            newest = max(known, key=lambda image: image.directory.stat().st_mtime)
            self._log.warn(
                "{manifest}: {error}; using image {version}",
                manifest=str(manifest),
                error=str(error),
                version=newest.version,
            )
            return newest


@frozen
class BuiltSystemVm:
    """The machine to start, and the image that its row must name."""

    spec: DomainSpec
    image: SystemImage
    vnc_password: str = field(repr=False)


class SystemVmBuilder:
    """Makes a `DomainSpec` for each start, with a new key and a certificate for a day."""

    def __init__(
        self,
        images: ImageSource,
        primary: PrimaryStorage,
        authority: ControlAuthority,
        logs: Path,
        vnc_address: Callable[[int], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._images = images
        self._primary = primary
        self._authority = authority
        self._logs = logs
        self._vnc_address = vnc_address  # by zone id: of its VMs' VNC servers
        self._clock = clock

    async def build(self, vm: Instance, nics: Sequence[Nic], facts: BootFacts) -> BuiltSystemVm:
        role = ROLES[vm.type]
        arch = Architecture.of(vm.arch)
        image = await self._images.current(role, arch)
        disk = await self._disk(vm, image)
        identity = self._authority.bootstrap(vm.instance_name, role)
        await self._authority.recorded(identity.certificate_pem)
        arguments = cmdline(vm, nics, facts)
        password = new_vnc_password()
        spec = DomainSpec(
            name=vm.instance_name,
            uuid=vm.uuid,
            memory_mib=vm.memory_mib,
            vcpus=vm.vcpus,
            nics=[DomainNic(nic.traffic_type, nic.bridge, nic.mac, nic.vlan) for nic in nics],
            serial_log=self.serial_log(vm),
            disk=Disk(disk),
            kernel=image.kernel,
            initrd=image.initrd,
            append=_with_screen(image.append),
            credentials={
                # for a guest whose RTC is wrong: TLS needs the time before the first connection
                boot_arguments.CMDLINE_CREDENTIAL: (
                    f"{arguments} {boot_arguments.CLOCK}={self._clock():.0f}".encode()
                ),
                boot_arguments.IDENTITY_CREDENTIAL: identity.to_pem_bundle(),
            },
            vnc=VncSpec(self._vnc_address(vm.zone_id), 0, password),
            arch=arch,
            is_system=True,
        )
        return BuiltSystemVm(spec, image, password)

    def serial_log(self, vm: Instance) -> Path:
        return self._logs / f"{vm.instance_name}.log"

    async def delete_disk(self, vm: Instance) -> None:
        await self._primary.delete_volume(disk_uuid(vm))

    async def _disk(self, vm: Instance, image: SystemImage) -> Path:
        """Return the existing disk, or a new clone when there is none or the image has changed."""
        path = self._primary.volume_path(disk_uuid(vm))
        if vm.image_sha256 == image.sha256 and path.exists():
            return path
        return await self._primary.create_clone(disk_uuid(vm), image.disk, "qcow2")


def _with_screen(append: str | None) -> str | None:
    """Let the kernel write to the screen, too; the last console stays /dev/console."""
    return None if append is None else f"console=tty0 {append}"


def disk_uuid(vm: Instance) -> str:
    """Return the UUID of a system VM's only disk, which follows from the VM's own."""
    return str(uuid.uuid5(uuid.UUID(vm.uuid), "root"))
