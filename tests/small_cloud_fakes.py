# SPDX-License-Identifier: Apache-2.0
"""Fakes around the services of SmallCloud: agents, hypervisor, storage, the lifecycle of system VMs."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from systemvm.host.guest_filter import BoundGuest
from systemvm.host.guest_services import GuestBridge, GuestData
from systemvm.host.guest_vlans import GuestLink
from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.hypervisors.base import (
    DomainSpec,
    DomainState,
    DomainStatus,
    ExitCallback,
    ExitReason,
)
from systemvm.management.hypervisors.data_disks import DataDisk
from systemvm.management.hypervisors.disk_backup import DiskBackup
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.network_helper import NetworkError
from systemvm.management.public_certificates.sites import PublicSites
from systemvm.management.screens.picture import Picture
from systemvm.management.screens.recognition import RecognitionError
from systemvm.management.state import instances
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState, Provisioning
from systemvm.management.state.storage_pools import StoragePool
from systemvm.management.system_vms.diagnostics import DiagnosticsResult
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, RpcError
from systemvm.wire.agent import Capability
from systemvm.wire.protocol import CURRENT, OLDEST
from systemvm.wire.role import Role
from systemvm.wire.source_access import SourceAccess, SourceProxy


class FakePeer:
    """An agent's connection that answers from a table of functions and records the calls."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[Any], Any]] = {}
        self.calls: list[tuple[str, Any]] = []

    async def call(
        self,
        method: str,
        params: Any = None,
        *,
        result: Any = None,
        deadline_s: float = 30,
        request_id: str | None = None,
    ) -> Any:
        self.calls.append((method, params))
        if method not in self.answers:
            raise RpcError(METHOD_NOT_FOUND, f"no method {method}")
        answer = self.answers[method](params)
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def params_of(self, method: str) -> list[Any]:
        """Return the params of all calls of one method."""
        return [params for name, params in self.calls if name == method]


class FakeAgents:
    """The connected agents, by name."""

    def __init__(self) -> None:
        self.peers: dict[str, tuple[Role, FakePeer]] = {}
        self.protocols: dict[str, int] = {}  # of agents that speak an older one
        self.lacking: set[tuple[str, Capability]] = set()  # names, and what their images are too old for

    def connect(self, name: str, role: Role) -> FakePeer:
        peer = FakePeer()
        self.peers[name] = (role, peer)
        return peer

    def disconnect(self, name: str) -> None:
        self.peers.pop(name, None)

    def peer(self, name: str) -> FakePeer | None:
        found = self.peers.get(name)
        return found[1] if found else None

    def up(self, role: Role, since: int = OLDEST) -> list[str]:
        speaking = [name for name in self.peers if self.protocols.get(name, CURRENT) >= since]
        return [name for name in speaking if self.peers[name][0] is role]

    def can(self, name: str, capability: Capability) -> bool:
        return (name, capability) not in self.lacking


class FakeRecognizer:
    """Knows what is written on which pixels."""

    def __init__(self) -> None:
        self.texts: dict[bytes, str] = {}
        self.readings = 0
        self.is_installed = True

    def require(self) -> None:
        if not self.is_installed:
            raise RecognitionError("text cannot be read")

    async def read(self, picture: Picture) -> str:
        self.require()
        self.readings += 1
        return self.texts.get(picture.pixels, "")


class FakeGuestServices:
    """DHCP, DNS, metadata and a filter that remember what they serve, and fail where a test wants it."""

    def __init__(self) -> None:
        self.served: list[Sequence[GuestBridge]] = []
        self.bound: list[BoundGuest] = []
        self.l2_ports: list[str] = []
        self.data: dict[IPv4Address, GuestData] = {}
        self.failed: dict[str, NetworkError] = {}
        self.taken: list[str] = []
        self.taken_error: NetworkError | None = None
        self.links: list[GuestLink] = []
        self.unlinked: dict[str, NetworkError] = {}
        self.link_error: NetworkError | None = None
        self.stopped: list[str] = []
        self.error: NetworkError | None = None
        self.filter_error: NetworkError | None = None

    async def serve(self, bridges: Sequence[GuestBridge]) -> dict[str, NetworkError]:
        if self.error is not None:
            raise self.error
        self.served.append(bridges)
        return self.failed

    async def bind_guests(self, guests: Iterable[BoundGuest], l2_ports: Iterable[str] = ()) -> None:
        if self.filter_error is not None:
            raise self.filter_error
        self.bound, self.l2_ports = list(guests), list(l2_ports)

    async def make_guest_links(self, links: Iterable[GuestLink]) -> dict[str, NetworkError]:
        if self.link_error is not None:
            raise self.link_error
        self.links = list(links)
        return self.unlinked

    async def stop(self, bridge: str) -> None:
        self.stopped.append(bridge)

    async def put_data(self, bridge: str, address: IPv4Address, mac: str, data: GuestData) -> None:
        if self.error is not None:
            raise self.error
        if bridge == "":
            raise NetworkError("bridge  carries no guest traffic of this host", "")
        self.data[address] = data

    async def taken_passwords(self) -> list[str]:
        if self.taken_error is not None:
            raise self.taken_error
        return self.taken


class FakeHypervisor:
    """A hypervisor that only records its machines."""

    def __init__(self) -> None:
        self.specs: dict[str, DomainSpec] = {}
        self.disks_of: dict[str, FakeDisks] = {}
        self.drives_of: dict[str, FakeCdDrive] = {}
        self.statuses: dict[str, DomainStatus] = {}
        self.stops: list[tuple[str, bool]] = []
        self.fails_with: Exception | None = None
        self.screen = b""  # as PPM
        self.pressed: list[tuple[str, list[Sequence[int]]]] = []
        self.vnc_ca_pem: str | None = None
        self._callbacks: list[ExitCallback] = []

    async def start(self, spec: DomainSpec) -> DomainStatus:
        if self.fails_with is not None:
            raise self.fails_with
        self.specs[spec.name] = spec
        self.disks_of.pop(spec.name, None)
        self.drives_of.pop(spec.name, None)
        status = DomainStatus(
            spec.name,
            spec.uuid,
            DomainState.RUNNING,
            vnc_address=spec.vnc.address if spec.vnc else None,
            vnc_port=5900 + len(self.specs) if spec.vnc else None,
            vnc_ca_pem=self.vnc_ca_pem if spec.vnc else None,
            has_config_drive=spec.config_drive is not None,
        )
        self.statuses[spec.name] = status
        return status

    async def stop(self, name: str, *, forced: bool = False, timeout_s: float = 60.0) -> None:
        if self.fails_with is not None:
            raise self.fails_with
        self.stops.append((name, forced))
        self.exit(name, ExitReason.STOPPED)

    def status(self, name: str) -> DomainStatus | None:
        return self.statuses.get(name)

    def disks(self, name: str) -> FakeDisks:
        disks = self.disks_of.setdefault(name, FakeDisks(self.specs[name], self.fails_with))
        disks.fails_with = self.fails_with
        return disks

    def cd_drive(self, name: str) -> FakeCdDrive:
        drive = self.drives_of.setdefault(name, FakeCdDrive(self.specs[name].cdrom))
        drive.fails_with = self.fails_with or drive.fails_with
        return drive

    async def screenshot(self, name: str) -> bytes:
        return self.screen

    async def press(self, name: str, chords: Sequence[Sequence[int]]) -> None:
        self.pressed.append((name, list(chords)))

    def on_exit(self, callback: ExitCallback) -> None:
        self._callbacks.append(callback)

    def exit(self, name: str, reason: ExitReason) -> None:
        """End a machine as if by itself."""
        before = self.statuses[name]
        self.statuses[name] = DomainStatus(name, before.uuid, DomainState.EXITED, exit_reason=reason)
        for callback in self._callbacks:
            callback(name, reason)


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


class FakeMounter:
    """Root's mount helper, without root: it makes the directory and says that it is mounted."""

    def __init__(self, directory: Path) -> None:
        self.mounts = directory / "pools"
        self.mountinfo = directory / "mountinfo"
        self.mountinfo.touch()
        self.fails_with: Exception | None = None

    async def mount(self, pool: StoragePool) -> None:
        if self.fails_with is not None:
            raise self.fails_with
        directory = self.mounts / pool.uuid
        make_directory(directory)
        append_line(self.mountinfo, f"36 35 0:50 / {directory} rw - nfs4 {pool.place} rw")

    async def unmount(self, pool: StoragePool) -> None:
        if self.fails_with is not None:
            raise self.fails_with
        remove_line(self.mountinfo, str(self.mounts / pool.uuid))


def make_directory(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)


def append_line(file: Path, line: str) -> None:
    with file.open("a") as writer:
        writer.write(f"{line}\n")


def remove_line(file: Path, text: str) -> None:
    kept = [line for line in file.read_text().splitlines(keepends=True) if text not in line]
    file.write_text("".join(kept))


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

    async def ensure_template(self, template_uuid: str, source: Path, template_format: str) -> Path:
        if self.fails_with is not None:
            raise self.fails_with
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


class FakeDiagnostics:
    """Diagnostics that answer as a system VM does over ssh."""

    def __init__(self, directory: Path) -> None:
        self.calls: list[tuple[str, ...]] = []
        self._directory = directory

    async def run(self, vm_uuid: str, kind: str, address: str, params: str) -> DiagnosticsResult:
        self.calls.append((vm_uuid, kind, address, params))
        return DiagnosticsResult("4 packets transmitted", "", "0")

    async def collect(self, vm_uuid: str, files: Sequence[str]) -> Path:
        self.calls.append((vm_uuid, *files))
        return self._directory / "abc/data.zip"


class FakeSystemVms:
    """A lifecycle of system VMs that only records its calls."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.calls: list[tuple[str, str, bool]] = []

    async def start(self, uuid: str) -> Instance:
        return await self._note("start", uuid, False)

    async def stop(self, uuid: str, *, forced: bool = False) -> Instance:
        return await self._note("stop", uuid, forced)

    async def reboot(self, uuid: str, *, forced: bool = False) -> Instance:
        return await self._note("reboot", uuid, forced)

    async def destroy(self, uuid: str) -> None:
        vm = await self._note("destroy", uuid, True)
        await self._database.run(instances.remove, vm.id, InstanceState.EXPUNGING)

    async def _note(self, what: str, uuid: str, forced: bool) -> Instance:
        self.calls.append((what, uuid, forced))
        return await self._database.read(instances.by_uuid, uuid)


class FakeZoneFacts:
    """The configuration of one zone."""

    def source_ca_pem(self, zone_name: str) -> str | None:
        return "-----BEGIN CERTIFICATE-----"

    def source_access(self, zone_name: str) -> SourceAccess:
        return SourceAccess(proxy=SourceProxy("10.11.0.9"))

    def max_template_size_bytes(self, zone_name: str) -> int:
        return 1 << 30

    def __init__(self) -> None:
        self.storage = SecondaryStorageConfig()
        self.sites: PublicSites | None = None

    def file_decides_read_only(self, zone_name: str, store_name: str) -> bool:
        return False

    def secondary_storage(self, zone_name: str, address: str | None = None) -> SecondaryStorageConfig:
        if self.sites is None:
            return self.storage
        return self.sites.secondary_storage(zone_name, self.storage, address)

    def own_networks(self) -> list[str]:
        return ["203.0.113.1/32"]
