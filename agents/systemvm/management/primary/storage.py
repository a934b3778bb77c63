# SPDX-License-Identifier: Apache-2.0
"""A directory of primary storage: templates and ISOs that are copied once, and linked clones of them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from twisted.internet.defer import DeferredLock
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from systemvm.management.hypervisors.disk_backup import is_ours
from systemvm.management.primary import archive, atomic_copy
from systemvm.management.primary.copy_permission import CopyPermission
from systemvm.management.primary.qemu_img import (
    DiskFormat,
    DiskSource,
    PrimaryStorageError,
    QemuImg,
    SourceFormat,
)
from systemvm.management.state.status import Provisioning
from systemvm.service import host_errors

#: The formats of templates on image stores; an ISO is attached unchanged.
TemplateFormat = Literal["qcow2", "raw", "iso", "vhd", "vhdx", "vmdk", "ova"]
#: Formats that a linked clone cannot have as its backing file, so that the copy is a qcow2; QEMU's names.
_CONVERTED: dict[TemplateFormat, SourceFormat] = {"vhd": "vpc", "vhdx": "vhdx", "vmdk": "vmdk"}

#: The mode of disks: the daemon creates them, and QEMU writes to them through the directory's group.
DISK_MODE = 0o660


class PrimaryStorage:
    """The directories `templates/` (read-only files), `volumes/` (a qcow2 each) and `snapshots/`."""

    _log = Logger()

    def __init__(self, directory: Path, qemu_img: QemuImg | None = None) -> None:
        self._templates = directory / "templates"
        self._volumes = directory / "volumes"
        self._snapshots = directory / "snapshots"  # until they are on secondary storage
        self._qemu_img = qemu_img or QemuImg()
        self._locks: dict[str, DeferredLock] = {}
        self.copying = CopyPermission()

    def open(self, leftovers_age_s: float = 0.0) -> None:
        """Make missing directories; remove incomplete files that nobody has written to for a time.

        Other hosts write to a shared directory: what they are writing now is not a leftover.
        """
        for directory in (self._templates, self._volumes, self._snapshots):
            directory.mkdir(parents=True, exist_ok=True)
            atomic_copy.remove_leftovers(directory, leftovers_age_s)

    # ---- templates ------------------------------------------------------------------------------------

    async def ensure_template(
        self, template_uuid: str, source: Path, template_format: TemplateFormat
    ) -> Path:
        """Return the path of a template; the first caller copies or converts it, later ones wait for that.

        Raises: PrimaryStorageError when it cannot be copied, also when copies are refused meanwhile.
        """
        converted = template_format == "ova" or template_format in _CONVERTED
        path = self._template_path(template_uuid, "qcow2" if converted else template_format)
        lock = self._locks.setdefault(template_uuid, DeferredLock())
        await lock.acquire()
        try:
            if not await deferToThread(path.exists):
                self.copying.check()
                copy = self._convert_template if converted else self._copy_template
                await copy(source, path, template_format)
        finally:
            lock.release()
        return path

    async def delete_template(self, template_uuid: str) -> None:
        """Delete a template without clones; waits for a copy in progress, does nothing when there is none."""
        lock = self._locks.setdefault(template_uuid, DeferredLock())
        await lock.acquire()
        try:
            for template_format in ("qcow2", "raw", "iso"):
                await deferToThread(self._template_path(template_uuid, template_format).unlink, True)
            await deferToThread(atomic_copy.sync_directory, self._templates)
        finally:
            lock.release()
        if not lock.locked:
            self._locks.pop(template_uuid, None)

    async def _copy_template(self, source: Path, path: Path, template_format: TemplateFormat) -> None:
        if template_format == "qcow2":
            # it was inspected when it was downloaded, but other hosts can write to the store
            info = await self._qemu_img.info(source, "qcow2")
            if info.backing_file or info.data_file:
                raise PrimaryStorageError(
                    f"{source.name} depends on another file: {info.backing_file or info.data_file}",
                    "convert it to an image without a backing or data file, and register that",
                )
        try:
            await deferToThread(atomic_copy.copy, source, path, self.copying.check)
        except OSError as error:
            raise self._not_copied(source, error) from error
        self._log.info("copied {source} to {path}", source=source, path=path)

    async def _convert_template(self, source: Path, path: Path, template_format: TemplateFormat) -> None:
        """Write the copy as a qcow2: complete and read-only, or not at all."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
        try:
            await deferToThread(source.stat)  # its error names the store, and not a program
            await deferToThread(temporary.touch, 0o600, False)
            if template_format == "ova":
                disk = await deferToThread(archive.find_disk, source)
            else:
                disk = DiskSource(source, _CONVERTED[template_format])
            await self.copying.run(lambda: self._qemu_img.convert(disk, temporary))
            self.copying.check()
            await deferToThread(atomic_copy.publish, temporary, path)
        except OSError as error:
            raise self._not_copied(source, error) from error
        except PrimaryStorageError as error:
            # qemu-img reports a full disk only as text; the file system is checked instead
            full = await deferToThread(host_errors.explain_full_disk, self._templates)
            if full is None:
                raise
            message = f"{source} cannot be converted on primary storage: {full.message}"
            raise PrimaryStorageError(message, full.hint) from error
        finally:
            await deferToThread(temporary.unlink, True)
        self._log.info("converted {source} to {path}", source=source, path=path)

    def _not_copied(self, source: Path, error: OSError) -> PrimaryStorageError:
        what = f"{source} cannot be copied to primary storage"
        full = host_errors.explain(error, str(self._templates))
        if full is not None:
            return PrimaryStorageError(f"{what}: {full.message}", full.hint)
        return PrimaryStorageError(f"{what}: {error.strerror}", "check that the store is mounted")

    def _template_path(self, template_uuid: str, template_format: str) -> Path:
        return self._templates / f"{uuid.UUID(template_uuid)}.{template_format}"

    # ---- volumes --------------------------------------------------------------------------------------

    def volume_path(self, volume_uuid: str) -> Path:
        return self._volumes / f"{uuid.UUID(volume_uuid)}.qcow2"

    def _incomplete(self, volume_uuid: str) -> Path:
        return self._volumes / f".{uuid.UUID(volume_uuid)}.qcow2.new"

    async def create_clone(
        self, volume_uuid: str, backing: Path, backing_format: DiskFormat, size_bytes: int | None = None
    ) -> Path:
        """Create a linked clone of `backing`, never smaller than it; replaces an existing one."""
        if size_bytes is not None:
            info = await self._qemu_img.info(backing, backing_format)
            size_bytes = max(size_bytes, info.virtual_size_bytes)
        return await self._create(
            volume_uuid,
            lambda path: self._qemu_img.create_clone(path, backing, backing_format, size_bytes),
        )

    async def create_empty(
        self, volume_uuid: str, size_bytes: int, provisioning: Provisioning = Provisioning.THIN
    ) -> Path:
        """Create an empty disk."""
        return await self._create(
            volume_uuid, lambda path: self._qemu_img.create_empty(path, size_bytes, provisioning)
        )

    async def _create(self, volume_uuid: str, create: Callable[[Path], Awaitable[None]]) -> Path:
        """Create a disk under a temporary name and rename it: complete or missing, after a power cut, too."""
        path, temporary = self.volume_path(volume_uuid), self._incomplete(volume_uuid)
        try:
            await create(temporary)
            await deferToThread(atomic_copy.publish, temporary, path, DISK_MODE)
        except (OSError, PrimaryStorageError) as error:
            # qemu-img reports a full disk only as text; the file system is checked instead
            trouble = host_errors.explain(error, str(self._volumes))
            trouble = trouble or await deferToThread(host_errors.explain_full_disk, self._volumes)
            if trouble is None:
                raise
            raise PrimaryStorageError(f"disk cannot be created: {trouble.message}", trouble.hint) from error
        finally:
            await deferToThread(temporary.unlink, True)
        return path

    async def volume_size_bytes(self, volume_uuid: str) -> int:
        """Return the virtual size of a disk, which can be in use."""
        return (await self._qemu_img.info(self.volume_path(volume_uuid), "qcow2")).virtual_size_bytes

    async def base_of(self, volume_uuid: str) -> Path | None:
        """Return the file that a disk is a linked clone of, whether it is there or not."""
        base = (await self._qemu_img.info(self.volume_path(volume_uuid), "qcow2")).backing_file
        return None if base is None else Path(base)

    async def resize_volume(self, volume_uuid: str, size_bytes: int) -> None:
        """Enlarge a disk that no machine uses."""
        await self._qemu_img.resize(self.volume_path(volume_uuid), size_bytes)

    async def import_volume(
        self,
        volume_uuid: str,
        source: Path,
        source_format: DiskFormat,
        size_bytes: int | None,
        provisioning: Provisioning = Provisioning.THIN,
    ) -> Path:
        """Create a disk with what another one of ours contains, which no machine writes to.

        It is never smaller.
        """
        info = await self._qemu_img.info(source, source_format)
        size = max(size_bytes or 0, info.virtual_size_bytes)

        async def copy(path: Path) -> None:
            await self._qemu_img.create_empty(path, size, provisioning)
            await self._qemu_img.fill(DiskSource(source, source_format), path, size)

        return await self._create(volume_uuid, copy)

    async def delete_volume(self, volume_uuid: str) -> None:
        """Delete a disk, and what a killed daemon has written of it; does nothing when there is none."""
        await self.delete_incomplete(volume_uuid)
        await deferToThread(self.volume_path(volume_uuid).unlink, True)

    async def delete_incomplete(self, volume_uuid: str) -> None:
        """Delete what a killed daemon has written of a disk; call it while nobody makes that."""
        await deferToThread(self._incomplete(volume_uuid).unlink, True)

    async def volume_names(self) -> list[str]:
        """Return the UUIDs of the volumes that have a file."""
        return await deferToThread(_names, self._volumes)

    async def restore_volume(
        self,
        volume_uuid: str,
        chain: list[Path],
        size_bytes: int,
        provisioning: Provisioning = Provisioning.THIN,
    ) -> Path:
        """Create a disk, or replace it, by what a chain of snapshots has, the whole one first."""

        async def flatten(path: Path) -> None:
            if provisioning is not Provisioning.THIN:
                await self._qemu_img.create_empty(path, size_bytes, provisioning)
                await self._qemu_img.flatten(chain, path, size_bytes, into_empty=True)
                return
            await deferToThread(path.touch, 0o600)
            await self._qemu_img.flatten(chain, path, size_bytes)
            if (await self._qemu_img.info(path, "qcow2")).virtual_size_bytes < size_bytes:
                await self._qemu_img.resize(path, size_bytes)

        return await self._create(volume_uuid, flatten)

    # ---- snapshots ------------------------------------------------------------------------------------

    def snapshot_path(self, name: str) -> Path:
        return self._snapshots / f"{uuid.UUID(name)}.qcow2"

    async def create_snapshot(self, name: str, size_bytes: int) -> Path:
        """Create the empty file that a machine writes a snapshot into; replaces an existing one."""
        path = self.snapshot_path(name)
        await self.delete_snapshot(name)
        await self._qemu_img.create_empty(path, size_bytes)
        await deferToThread(path.chmod, DISK_MODE)
        return path

    async def copy_volume(self, volume_uuid: str, name: str, size_bytes: int) -> Path:
        """Write what a disk that no machine uses contains into the file of a snapshot."""
        path = self.snapshot_path(name)
        await self.delete_snapshot(name)
        await deferToThread(path.touch, 0o600)
        await self._qemu_img.copy_disk(self.volume_path(volume_uuid), path, size_bytes)
        return path

    async def complete_snapshot(self, name: str, base: str | None) -> int:
        """Name the snapshot that this one is an increment on; return how many bytes the file has."""
        path = self.snapshot_path(name)
        if base is not None:
            await self._qemu_img.name_backing_file(path, str(uuid.UUID(base)))
        return (await deferToThread(path.stat)).st_size

    async def restart_bitmap(self, volume_uuid: str, bitmap: str) -> None:
        """Record what changes on a disk from now on, and forget what changed before."""
        path = self.volume_path(volume_uuid)
        for name in await self._qemu_img.bitmaps(path):
            if is_ours(name):
                await self._qemu_img.remove_bitmap(path, name)
        await self._qemu_img.add_bitmap(path, bitmap)

    async def delete_snapshot(self, name: str) -> None:
        """Delete the file of a snapshot; does nothing when there is none."""
        await deferToThread(self.snapshot_path(name).unlink, True)

    async def snapshot_names(self) -> list[str]:
        """Return the UUIDs of the snapshots that have a file."""
        return await deferToThread(_names, self._snapshots)


def _names(directory: Path) -> list[str]:
    """Return the UUIDs that files of a directory are named by. It blocks."""
    found = []
    for path in directory.glob("*.qcow2"):
        with suppress(ValueError):  # it is not ours
            found.append(str(uuid.UUID(path.stem)))
    return found
