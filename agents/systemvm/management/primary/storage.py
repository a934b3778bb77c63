# SPDX-License-Identifier: Apache-2.0
"""Local primary storage: templates and ISOs copied from secondary storage once, and linked clones of them."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

from twisted.internet.defer import DeferredLock
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from systemvm.management.primary import atomic_copy
from systemvm.management.primary.qemu_img import DiskFormat, PrimaryStorageError, QemuImg
from systemvm.service import host_errors

#: What a template is on primary storage; an ISO is attached as it is.
TemplateFormat = Literal["qcow2", "raw", "iso"]


#: A machine's disk: the daemon makes it, and QEMU writes to it, whose group the directory's is.
DISK_MODE = 0o660


class PrimaryStorage:
    """The directories `templates/` (read-only files) and `volumes/` (one qcow2 a machine)."""

    _log = Logger()

    def __init__(self, directory: Path, qemu_img: QemuImg | None = None) -> None:
        self._templates = directory / "templates"
        self._volumes = directory / "volumes"
        self._qemu_img = qemu_img or QemuImg()
        self._locks: dict[str, DeferredLock] = {}

    def open(self) -> None:
        for directory in (self._templates, self._volumes):
            directory.mkdir(parents=True, exist_ok=True)
            atomic_copy.remove_leftovers(directory)

    # ---- templates ------------------------------------------------------------------------------------

    async def ensure_template(
        self, template_uuid: str, source: Path, template_format: TemplateFormat
    ) -> Path:
        """The template's path here, copied at its first use; later callers wait for that."""
        path = self._template_path(template_uuid, template_format)
        lock = self._locks.setdefault(template_uuid, DeferredLock())
        await lock.acquire()
        try:
            if not path.exists():
                await self._copy_template(source, path, template_format)
        finally:
            lock.release()
        return path

    async def delete_template(self, template_uuid: str) -> None:
        """For a template without clones; waits for a copy that is under way; fine when it is not here."""
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
            # it was inspected when it was downloaded; a look more costs nothing, and the store is shared
            facts = await self._qemu_img.facts(source, "qcow2")
            if facts.backing_file or facts.data_file:
                raise PrimaryStorageError(
                    f"{source.name} leads to another file ({facts.backing_file or facts.data_file})",
                    "only images that stand alone can be templates",
                )
        try:
            await deferToThread(atomic_copy.copy, source, path)
        except OSError as error:
            what = f"{source} could not be copied to primary storage"
            full = host_errors.explain(error, str(self._templates))
            if full is not None:
                raise PrimaryStorageError(f"{what}: {full.message}", full.hint) from error
            raise PrimaryStorageError(f"{what}: {error.strerror}", "is the store mounted?") from error
        self._log.info("{source} copied to {path}", source=source, path=path)

    def _template_path(self, template_uuid: str, template_format: str) -> Path:
        return self._templates / f"{uuid.UUID(template_uuid)}.{template_format}"

    # ---- volumes --------------------------------------------------------------------------------------

    def volume_path(self, volume_uuid: str) -> Path:
        return self._volumes / f"{uuid.UUID(volume_uuid)}.qcow2"

    async def create_clone(
        self, volume_uuid: str, backing: Path, backing_format: DiskFormat, size_bytes: int | None = None
    ) -> Path:
        """A thin disk on top of `backing`, never smaller than it; made anew when it is there already."""
        if size_bytes is not None:
            facts = await self._qemu_img.facts(backing, backing_format)
            size_bytes = max(size_bytes, facts.virtual_size_bytes)
        return await self._create(
            volume_uuid,
            lambda path: self._qemu_img.create_clone(path, backing, backing_format, size_bytes),
        )

    async def create_empty(self, volume_uuid: str, size_bytes: int) -> Path:
        """A thin disk with nothing on it, for a machine that is installed from an ISO."""
        return await self._create(volume_uuid, lambda path: self._qemu_img.create_empty(path, size_bytes))

    async def _create(self, volume_uuid: str, create: Callable[[Path], Awaitable[None]]) -> Path:
        """Made under another name, then given its own: whole or not there."""
        path = self.volume_path(volume_uuid)
        temporary = path.with_name(f".{path.name}.new")
        try:
            await create(temporary)
            temporary.chmod(DISK_MODE)
            temporary.replace(path)
            await deferToThread(atomic_copy.sync_directory, self._volumes)
        except (OSError, PrimaryStorageError) as error:
            # qemu-img says what failed in words alone; whether the disk is full can be seen
            trouble = host_errors.explain(error, str(self._volumes))
            trouble = trouble or host_errors.explain_full_disk(self._volumes)
            if trouble is None:
                raise
            raise PrimaryStorageError(f"no disk could be made: {trouble.message}", trouble.hint) from error
        finally:
            temporary.unlink(missing_ok=True)
        return path

    async def delete_volume(self, volume_uuid: str) -> None:
        """Fine when it is not there."""
        await deferToThread(self.volume_path(volume_uuid).unlink, True)
