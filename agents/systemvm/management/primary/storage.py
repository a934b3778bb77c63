# SPDX-License-Identifier: Apache-2.0
"""Local primary storage: templates and ISOs copied from secondary storage once, and linked clones of them."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Literal

from twisted.internet.defer import DeferredLock
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from systemvm.management.primary import copying
from systemvm.management.primary.qemu_img import DiskFormat, PrimaryStorageError, QemuImg

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
            copying.remove_leftovers(directory)

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
            await deferToThread(copying.sync_directory, self._templates)
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
            await deferToThread(copying.copy, source, path)
        except OSError as e:
            raise PrimaryStorageError(
                f"{source} could not be copied to primary storage: {e.strerror}",
                "is the store mounted, and is there room?",
            ) from e
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
        path = self.volume_path(volume_uuid)
        temporary = path.with_name(f".{path.name}.new")
        if size_bytes is not None:
            facts = await self._qemu_img.facts(backing, backing_format)
            size_bytes = max(size_bytes, facts.virtual_size_bytes)
        try:
            await self._qemu_img.create_clone(temporary, backing, backing_format, size_bytes)
            temporary.chmod(DISK_MODE)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        await deferToThread(copying.sync_directory, self._volumes)
        return path

    async def create_empty(self, volume_uuid: str, size_bytes: int) -> Path:
        """A thin disk with nothing on it, for a machine that is installed from an ISO."""
        path = self.volume_path(volume_uuid)
        temporary = path.with_name(f".{path.name}.new")
        try:
            await self._qemu_img.create_empty(temporary, size_bytes)
            temporary.chmod(DISK_MODE)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        await deferToThread(copying.sync_directory, self._volumes)
        return path

    async def delete_volume(self, volume_uuid: str) -> None:
        """Fine when it is not there."""
        await deferToThread(self.volume_path(volume_uuid).unlink, True)
