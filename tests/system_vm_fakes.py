# SPDX-License-Identifier: Apache-2.0
"""Fakes of the host: hypervisor, primary storage, images and firewall."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from systemvm.host.architecture import Architecture
from systemvm.management.hypervisors.base import (
    DomainSpec,
    DomainState,
    DomainStatus,
    ExitCallback,
    ExitReason,
)
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.hypervisors.guest_agent import GuestAgent
from systemvm.management.hypervisors.guest_agent_session import GuestAgentSilentError
from systemvm.management.primary.system_images import ImageManifest, SystemImage
from systemvm.wire.role import Role


class FakeHypervisor:
    """A hypervisor that only keeps specs; tests end its machines and make starts fail."""

    def __init__(self) -> None:
        self.specs: dict[str, DomainSpec] = {}
        self.started: list[DomainSpec] = []
        self.stopped: list[tuple[str, bool]] = []
        self.failing: HypervisorError | None = None
        self._callbacks: list[ExitCallback] = []

    async def start(self, spec: DomainSpec) -> DomainStatus:
        if self.failing is not None:
            raise self.failing
        self.specs[spec.name] = spec
        self.started.append(spec)
        return self._status(spec)

    async def stop(self, name: str, *, forced: bool = False, timeout_s: float = 60.0) -> None:
        self.stopped.append((name, forced))
        if self.specs.pop(name, None) is not None:
            self._report(name, ExitReason.STOPPED)

    def end(self, name: str, reason: ExitReason) -> None:
        """End the machine as if by itself."""
        del self.specs[name]
        self._report(name, reason)

    def _report(self, name: str, reason: ExitReason) -> None:
        for callback in self._callbacks:
            callback(name, reason)

    async def reset(self, name: str) -> None:
        raise HypervisorError("not in these tests")

    async def adopt(self) -> dict[str, DomainStatus]:
        return {name: self._status(spec) for name, spec in self.specs.items()}

    def status(self, name: str) -> DomainStatus | None:
        spec = self.specs.get(name)
        return None if spec is None else self._status(spec)

    def on_exit(self, callback: ExitCallback) -> None:
        self._callbacks.append(callback)

    async def screenshot(self, name: str) -> bytes:
        raise HypervisorError("not in these tests")

    async def press(self, name: str, chords: Sequence[Sequence[int]]) -> None:
        raise HypervisorError("not in these tests")

    async def set_vnc_password(self, name: str, password: str) -> None:
        raise HypervisorError("not in these tests")

    async def renew_screens(self) -> None:
        """Do nothing: these machines have no VNC server."""

    def guest_agent(self, name: str) -> GuestAgent:
        raise GuestAgentSilentError(f"{name}: no guest agent in these tests")

    async def close(self) -> None:
        """Release nothing."""

    @staticmethod
    def _status(spec: DomainSpec) -> DomainStatus:
        address = spec.vnc.address if spec.vnc is not None else None
        return DomainStatus(
            spec.name, spec.uuid, DomainState.RUNNING, pid=1,
            vnc_address=address, vnc_port=5900 if address else None, vnc_ca_pem="CA" if address else None,
        )  # fmt: skip


class FakePrimary:
    """Primary storage that records clones and makes empty files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.clones: list[tuple[str, Path]] = []

    def volume_path(self, volume_uuid: str) -> Path:
        return self._directory / f"{volume_uuid}.qcow2"

    async def create_clone(
        self, volume_uuid: str, backing: Path, backing_format: str, size_bytes: int | None = None
    ) -> Path:
        self.clones.append((volume_uuid, backing))
        self.volume_path(volume_uuid).touch()
        return self.volume_path(volume_uuid)

    async def delete_volume(self, volume_uuid: str) -> None:
        self.volume_path(volume_uuid).unlink(missing_ok=True)


class FakeImages:
    """One image per role; `rebuild` makes a newer one."""

    def __init__(self) -> None:
        self._digit = "a"

    def rebuild(self) -> None:
        self._digit = "b"

    async def current(self, role: Role, arch: Architecture = Architecture.AMD64) -> SystemImage:
        manifest = ImageManifest(
            role.value, "0.1.0", "amd64", "d.qcow2", "vmlinuz", "initrd", "root=LABEL=root", {}
        )
        return SystemImage(self._digit * 64, manifest, Path("/images") / self._digit)


class FakeAdmission:
    def __init__(self) -> None:
        self.addresses: set[IPv4Address] = set()

    async def admit_consoles(self, addresses: Iterable[IPv4Address]) -> None:
        self.addresses = set(addresses)
