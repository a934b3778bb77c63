# SPDX-License-Identifier: Apache-2.0
"""Primary storage: the files of images, without their contents."""

from __future__ import annotations

import shutil
from pathlib import Path

from systemvm.management.primary.copy_permission import CopyPermission
from systemvm.management.state.status import Provisioning


class FakePrimary:
    """Primary storage that makes empty files in the place of images."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.copied: list[Path] = []
        self.formats: list[str] = []
        self.bitmaps: dict[str, str] = {}
        self.restored: dict[str, list[Path]] = {}
        self.sizes: dict[str, int] = {}
        self.clones: dict[str, tuple[Path, str, int | None]] = {}
        self.provisioned: dict[str, Provisioning] = {}  # of disks that are no linked clones
        self.fails_with: Exception | None = None
        self.copying = CopyPermission()

    async def ensure_template(self, template_uuid: str, source: Path, template_format: str) -> Path:
        if self.fails_with is not None:
            raise self.fails_with
        self.copying.check()
        self.copied.append(source)
        self.formats.append(template_format)
        converted = template_format not in ("qcow2", "raw", "iso")
        return self._touch(f"{template_uuid}.{'qcow2' if converted else template_format}")

    async def delete_template(self, template_uuid: str) -> None:
        if self.fails_with is not None:
            raise self.fails_with
        for path in self.directory.glob(f"{template_uuid}.*"):
            path.unlink()

    def volume_path(self, volume_uuid: str) -> Path:
        return self.directory / f"{volume_uuid}.qcow2"

    async def create_clone(
        self, volume_uuid: str, backing: Path, backing_format: str, size_bytes: int | None = None
    ) -> Path:
        self.clones[volume_uuid] = (backing, backing_format, size_bytes)
        return self._touch(f"{volume_uuid}.qcow2")

    async def volume_size_bytes(self, volume_uuid: str) -> int:
        return self.sizes.get(volume_uuid, 0)

    async def base_of(self, volume_uuid: str) -> Path | None:
        return self.clones[volume_uuid][0] if volume_uuid in self.clones else None

    async def resize_volume(self, volume_uuid: str, size_bytes: int) -> None:
        self.sizes[volume_uuid] = size_bytes

    async def import_volume(
        self,
        volume_uuid: str,
        source: Path,
        source_format: str,
        size_bytes: int | None,
        provisioning: Provisioning = Provisioning.THIN,
    ) -> Path:
        if self.fails_with is not None:
            raise self.fails_with
        path = self._touch(f"{volume_uuid}.qcow2")
        shutil.copyfile(source, path)
        self.sizes[volume_uuid] = size_bytes or 0
        self.provisioned[volume_uuid] = provisioning
        return path

    async def delete_incomplete(self, volume_uuid: str) -> None:
        (self.directory / f".{volume_uuid}.qcow2.new").unlink(missing_ok=True)

    async def create_empty(
        self, volume_uuid: str, size_bytes: int, provisioning: Provisioning = Provisioning.THIN
    ) -> Path:
        if self.fails_with is not None:
            raise self.fails_with
        self.provisioned[volume_uuid] = provisioning
        self.sizes[volume_uuid] = size_bytes
        return self._touch(f"{volume_uuid}.qcow2")

    def snapshot_path(self, name: str) -> Path:
        return self.directory / f"{name}.snapshot"

    async def create_snapshot(self, name: str, size_bytes: int) -> Path:
        return self._touch(f"{name}.snapshot")

    async def complete_snapshot(self, name: str, base: str | None) -> int:
        return self.snapshot_path(name).stat().st_size

    async def copy_volume(self, volume_uuid: str, name: str, size_bytes: int) -> Path:
        if self.fails_with is not None:
            raise self.fails_with
        self.snapshot_path(name).write_bytes(b"whole")
        return self.snapshot_path(name)

    async def restart_bitmap(self, volume_uuid: str, bitmap: str) -> None:
        self.bitmaps[volume_uuid] = bitmap

    async def restore_volume(
        self,
        volume_uuid: str,
        chain: list[Path],
        size_bytes: int,
        provisioning: Provisioning = Provisioning.THIN,
    ) -> Path:
        self.restored[volume_uuid] = list(chain)
        self.provisioned[volume_uuid] = provisioning
        self.sizes[volume_uuid] = size_bytes
        return self._touch(f"{volume_uuid}.qcow2")

    async def delete_snapshot(self, name: str) -> None:
        self.snapshot_path(name).unlink(missing_ok=True)

    async def delete_volume(self, volume_uuid: str) -> None:
        self.volume_path(volume_uuid).unlink(missing_ok=True)

    def _touch(self, name: str) -> Path:
        path = self.directory / name
        path.touch()
        return path
