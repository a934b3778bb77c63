# SPDX-License-Identifier: Apache-2.0
"""The hypervisor of the host: it records its machines and runs none."""

from __future__ import annotations

from collections.abc import Sequence

from small_cloud.machine_drives import FakeCdDrive, FakeDisks
from systemvm.management.hypervisors.base import (
    DomainSpec,
    DomainState,
    DomainStatus,
    ExitCallback,
    ExitReason,
)


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
        self.conditions: dict[str, str] = {}  # of machines that do not just run
        self.resumed: list[str] = []
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

    async def condition(self, name: str) -> str:
        if self.fails_with is not None:
            raise self.fails_with
        return self.conditions.get(name, "running")

    async def resume(self, name: str) -> None:
        self.resumed.append(name)

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
