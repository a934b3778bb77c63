# SPDX-License-Identifier: Apache-2.0
"""The drives of the fake hypervisor's machines: disks, and the CD drive."""

from __future__ import annotations

from pathlib import Path

from systemvm.management.hypervisors.base import (
    DomainSpec,
)
from systemvm.management.hypervisors.data_disks import DataDisk
from systemvm.management.hypervisors.disk_backup import DiskBackup
from systemvm.management.hypervisors.errors import HypervisorError


class FakeDisks:
    """The disks of a machine that only records its changes."""

    def __init__(self, spec: DomainSpec, fails_with: Exception | None) -> None:
        self.attached = {disk.uuid: disk for disk in spec.data_disks}
        self.sizes: dict[str, int] = {}
        self.backups: list[DiskBackup] = []
        self.recording: dict[str, str] = {}  # since when changes are recorded, by disk
        self.kept: dict[str, str | None] = {}
        self.fails_with = fails_with

    async def attach(self, disk: DataDisk) -> None:
        if self.fails_with is not None:
            raise self.fails_with
        self.attached[disk.uuid] = disk

    async def has(self, uuid: str) -> bool:
        return uuid in self.attached

    async def detach(self, uuid: str) -> None:
        if self.fails_with is not None:
            raise self.fails_with
        self.attached.pop(uuid, None)

    async def resize(self, disk_name: str, size_bytes: int) -> None:
        self.sizes[disk_name] = size_bytes

    async def back_up(self, backup: DiskBackup) -> bool:
        if self.fails_with is not None:
            raise self.fails_with
        self.backups.append(backup)
        backup.target.write_bytes(backup.name.encode() * 30_000)
        is_whole = backup.since is None or self.recording.get(backup.disk) != backup.since
        self.recording[backup.disk] = backup.name
        return is_whole

    async def forget_changes(self, disk_name: str, keep: str | None) -> None:
        self.kept[disk_name] = keep


class FakeCdDrive:
    """The CD drive of a machine, which its guest can lock."""

    def __init__(self, medium: Path | None) -> None:
        self.medium = medium
        self.is_locked = False
        self.fails_with: Exception | None = None

    async def insert(self, medium: Path, *, forced: bool = False) -> None:
        if self.medium != medium:
            self._open(forced)
            self.medium = medium

    async def eject(self, *, forced: bool = False) -> None:
        if self.medium is not None:
            self._open(forced)
            self.medium = None

    def _open(self, forced: bool) -> None:
        if self.fails_with is not None:
            raise self.fails_with
        if self.is_locked and not forced:
            raise HypervisorError("the guest uses the medium", "unmount it")
        self.is_locked = False
