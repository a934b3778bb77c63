# SPDX-License-Identifier: Apache-2.0
"""Doubles of primary storage and of a hypervisor: a disk is a file that says what each of its blocks has.

They outlive the daemon. A disk has bitmaps of what changed, a snapshot is whole or has what changed since
another one, and a clone names its backing file, as with QEMU.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from drive_reader import files_on
from small_cloud.hypervisor import FakeHypervisor
from small_cloud.machine_drives import FakeCdDrive, FakeDisks
from systemvm.management.hypervisors.base import DomainSpec, DomainStatus, ExitReason
from systemvm.management.hypervisors.data_disks import ROOT_DISK, disk_name
from systemvm.management.hypervisors.disk_backup import DiskBackup, bitmap_name
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.primary.copy_permission import CopyPermission
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state.status import Provisioning
from unit.management.zone_sequences.fuse import Fuse

Image = dict[str, Any]
Blocks = dict[str, int]
#: Disks have so few blocks that increments often have the same ones.
BLOCKS = ("0", "1", "2", "3")


def read(path: Path) -> Image:
    image: Image = json.loads(path.read_text())
    return image


def write(path: Path, image: Image) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(image))
    temporary.replace(path)


def flat(chain: list[Path]) -> Blocks:
    """Return what a chain of snapshots restores. Raises: AssertionError when it is not one."""
    blocks: Blocks = {}
    for number, path in enumerate(chain):
        image = read(path)
        base = image.get("base")
        assert base == (chain[number - 1].name if number else None), f"{path} is an increment on {base}"
        blocks |= image["blocks"]
    return blocks


class Faults:
    """Whether an operation fails, by chance; never when `share` is 0."""

    def __init__(self, order: random.Random) -> None:
        self.share = 0.0
        self._order = order

    def happens(self) -> bool:
        return self._order.random() < self.share


class DiskDirectory:
    """A directory of primary storage, as PrimaryStorage has it."""

    def __init__(self, directory: Path, fuse: Fuse, faults: Faults, taken: dict[str, Blocks]) -> None:
        self.directory = directory
        self._fuse = fuse
        self._faults = faults
        self._taken = taken
        self.copying = CopyPermission()
        for path in directory.glob(".*.new"):
            path.unlink()

    async def ensure_template(self, template_uuid: str, source: Path, template_format: str) -> Path:
        path = self.directory / f"{template_uuid}.template"
        if not path.exists():
            self.copying.check()
            self._put(path, read(source))
        return path

    async def delete_template(self, template_uuid: str) -> None:
        self._delete(self.directory / f"{template_uuid}.template")

    def volume_path(self, volume_uuid: str) -> Path:
        return self.directory / f"{volume_uuid}.volume"

    async def create_clone(
        self, volume_uuid: str, backing: Path, backing_format: str, size_bytes: int | None = None
    ) -> Path:
        base = read(backing)
        image = {"size": size_bytes or base["size"], "backing": str(backing), "blocks": base["blocks"]}
        return self._put(self.volume_path(volume_uuid), image)

    async def create_empty(
        self, volume_uuid: str, size_bytes: int, provisioning: Provisioning = Provisioning.THIN
    ) -> Path:
        return self._put(self.volume_path(volume_uuid), {"size": size_bytes, "blocks": {}})

    async def volume_size_bytes(self, volume_uuid: str) -> int:
        return int(self._get(self.volume_path(volume_uuid))["size"])

    async def base_of(self, volume_uuid: str) -> Path | None:
        base = self._get(self.volume_path(volume_uuid)).get("backing")
        return None if base is None else Path(base)

    async def resize_volume(self, volume_uuid: str, size_bytes: int) -> None:
        path = self.volume_path(volume_uuid)
        self._put(path, self._get(path) | {"size": size_bytes})

    async def import_volume(
        self,
        volume_uuid: str,
        source: Path,
        source_format: str,
        size_bytes: int | None,
        provisioning: Provisioning = Provisioning.THIN,
    ) -> Path:
        content = self._get(source)
        image = {"size": max(size_bytes or 0, content["size"]), "blocks": content["blocks"]}
        return self._put(self.volume_path(volume_uuid), image)

    async def delete_volume(self, volume_uuid: str) -> None:
        self._delete(self.volume_path(volume_uuid))

    async def delete_incomplete(self, volume_uuid: str) -> None:
        self._delete(self.directory / f".{volume_uuid}.volume.new")

    async def restore_volume(
        self,
        volume_uuid: str,
        chain: list[Path],
        size_bytes: int,
        provisioning: Provisioning = Provisioning.THIN,
    ) -> Path:
        return self._put(self.volume_path(volume_uuid), {"size": size_bytes, "blocks": flat(chain)})

    def snapshot_path(self, name: str) -> Path:
        return self.directory / f"{name}.snapshot"

    async def create_snapshot(self, name: str, size_bytes: int) -> Path:
        return self._put(self.snapshot_path(name), {"blocks": {}})

    async def copy_volume(self, volume_uuid: str, name: str, size_bytes: int) -> Path:
        blocks = self._get(self.volume_path(volume_uuid))["blocks"]
        # again, when a kill ended a backup of the VM, which has written and was stopped since
        self._taken[name] = blocks
        return self._put(self.snapshot_path(name), {"blocks": blocks})

    async def complete_snapshot(self, name: str, base: str | None) -> int:
        path = self.snapshot_path(name)
        self._put(path, self._get(path) | {"base": base})
        return path.stat().st_size

    async def restart_bitmap(self, volume_uuid: str, bitmap: str) -> None:
        path = self.volume_path(volume_uuid)
        self._put(path, self._get(path) | {"bitmaps": {bitmap: []}})

    async def delete_snapshot(self, name: str) -> None:
        self._delete(self.snapshot_path(name))

    async def volume_names(self) -> list[str]:
        return [path.stem for path in self.directory.glob("*.volume")]

    async def snapshot_names(self) -> list[str]:
        return [path.stem for path in self.directory.glob("*.snapshot")]

    def _get(self, path: Path) -> Image:
        if not path.exists():
            raise PrimaryStorageError(f"qemu-img: {path.name} does not exist")
        return read(path)

    def _put(self, path: Path, image: Image) -> Path:
        self._fuse.burn()
        if self._faults.happens():
            raise PrimaryStorageError("disk cannot be created: no space", "delete something")
        write(path, image)
        self._fuse.burn()
        return path

    def _delete(self, path: Path) -> None:
        self._fuse.burn()
        if self._faults.happens():
            raise PrimaryStorageError("file cannot be deleted: the server does not answer")
        path.unlink(missing_ok=True)
        self._fuse.burn()


class Machines(FakeHypervisor):
    """Machines that write to their disks, and back them up."""

    def __init__(self, fuse: Fuse, faults: Faults) -> None:
        super().__init__()
        self.fuse = fuse
        self.faults = faults
        self.taken: dict[str, Blocks] = {}  # what each snapshot should have
        self.passwords: set[bytes] = set()  # that guests were started with
        self.faulty: list[str] = []  # what no real machine could do

    def restart_daemon(self, fuse: Fuse) -> None:
        self.fuse = fuse
        self._callbacks.clear()

    async def start(self, spec: DomainSpec) -> DomainStatus:
        self.fuse.burn()
        if self.faults.happens():
            raise HypervisorError("QEMU ended at its start")
        status = await super().start(spec)
        self._note_missing(spec.name)
        self._note_password(spec)
        self.fuse.burn()
        return status

    def _note_missing(self, name: str) -> None:
        for path in self.disks_in(name).values():
            backing = read(path).get("backing") if path.exists() else "itself"
            if backing is not None and not Path(backing).exists():
                self.faulty.append(f"{name} was started, and {path.name} lacks {backing}")

    def _note_password(self, spec: DomainSpec) -> None:
        """Note a password that a guest gets a second time: it could have changed it meanwhile."""
        password = files_on(spec).get("cloudstack/password/vm_password.txt")
        if password in self.passwords:
            self.faulty.append(f"{spec.name} was given a password again")
        if password is not None:
            self.passwords.add(password)

    async def stop(self, name: str, *, forced: bool = False, timeout_s: float = 60.0) -> None:
        self.fuse.burn()
        await super().stop(name, forced=forced, timeout_s=timeout_s)
        self.fuse.burn()

    def disks(self, name: str) -> MachineDisks:
        disks = self.disks_of.get(name)
        if not isinstance(disks, MachineDisks):
            disks = self.disks_of[name] = MachineDisks(self, self.specs[name])
        return disks

    def cd_drive(self, name: str) -> FakeCdDrive:
        return self.drives_of.setdefault(name, MachineCdDrive(self, self.specs[name].cdrom))

    def running(self) -> list[str]:
        return [name for name, status in self.statuses.items() if status.state.alive]

    def disks_in(self, name: str) -> dict[str, Path]:
        """Return the files of a machine's disks, by their names in QEMU."""
        root = self.specs[name].disk
        assert root is not None
        data = {disk_name(disk.uuid): disk.path for disk in self.disks(name).attached.values()}
        return {ROOT_DISK: root.path} | data

    def die(self, name: str) -> None:
        """End a machine as by SIGKILL: what its disks have recorded is not believed any more."""
        for path in self.disks_in(name).values():
            write(path, read(path) | {"bitmaps": {}})
        self.exit(name, ExitReason.KILLED)

    def guest_writes(self, name: str, order: random.Random) -> None:
        path = order.choice(list(self.disks_in(name).values()))
        block, image = order.choice(BLOCKS), read(path)
        image["blocks"][block] = order.randrange(1 << 30)
        for changed in image.get("bitmaps", {}).values():
            changed.append(block)
        write(path, image)


class MachineCdDrive(FakeCdDrive):
    def __init__(self, machines: Machines, medium: Path | None) -> None:
        super().__init__(medium)
        self._machines = machines

    async def insert(self, medium: Path, *, forced: bool = False) -> None:
        self._machines.fuse.burn()
        if self._machines.faults.happens():
            raise HypervisorError("QEMU did not take the medium")
        await super().insert(medium, forced=forced)
        self._machines.fuse.burn()

    async def eject(self, *, forced: bool = False) -> None:
        self._machines.fuse.burn()
        if self._machines.faults.happens() and not forced:
            raise HypervisorError("the guest uses the medium")
        await super().eject(forced=forced)
        self._machines.fuse.burn()


class MachineDisks(FakeDisks):
    def __init__(self, machines: Machines, spec: DomainSpec) -> None:
        super().__init__(spec, None)
        self._machines = machines
        self._name = spec.name

    async def back_up(self, backup: DiskBackup) -> bool:
        machines, path = self._machines, self._path(backup.disk)
        machines.fuse.burn()
        image = read(path)
        bitmaps = {
            name: blocks for name, blocks in image.get("bitmaps", {}).items() if name == self._since(backup)
        }
        is_whole = not bitmaps
        changed = BLOCKS if is_whole else bitmaps[self._since(backup)]
        blocks = {block: value for block, value in image["blocks"].items() if block in changed}
        if machines.faults.happens():
            write(backup.target, {"blocks": {}})
            machines.die(self._name)
            raise HypervisorError("QEMU ended in the middle", "start the VM")
        write(path, image | {"bitmaps": bitmaps | {bitmap_name(backup.name): []}})
        write(backup.target, {"blocks": blocks})
        machines.taken[backup.name] = image["blocks"]
        machines.fuse.burn()
        return is_whole

    async def attach(self, disk: Any) -> None:
        self._machines.fuse.burn()
        if self._machines.faults.happens():
            raise HypervisorError("QEMU did not take the disk")
        await super().attach(disk)
        self._machines.fuse.burn()

    async def detach(self, uuid: str) -> None:
        self._machines.fuse.burn()
        await super().detach(uuid)
        self._machines.fuse.burn()

    async def resize(self, disk_name: str, size_bytes: int) -> None:
        self._machines.fuse.burn()
        path = self._path(disk_name)
        write(path, read(path) | {"size": size_bytes})
        self._machines.fuse.burn()

    async def forget_changes(self, disk_name: str, keep: str | None) -> None:
        self._machines.fuse.burn()
        path = self._path(disk_name)
        image = read(path)
        kept = {
            name: blocks
            for name, blocks in image.get("bitmaps", {}).items()
            if keep and name == bitmap_name(keep)
        }
        write(path, image | {"bitmaps": kept})

    def _path(self, disk: str) -> Path:
        return self._machines.disks_in(self._name)[disk]

    @staticmethod
    def _since(backup: DiskBackup) -> str:
        return bitmap_name(backup.since) if backup.since else ""
