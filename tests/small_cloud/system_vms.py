# SPDX-License-Identifier: Apache-2.0
"""The system VMs of the zone: their lifecycle, and their diagnostics over ssh."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from systemvm.management.state import instances
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from systemvm.management.system_vms.diagnostics import DiagnosticsResult


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
