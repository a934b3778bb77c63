# SPDX-License-Identifier: Apache-2.0
"""runDiagnostics and getDiagnosticsData: `systemvm-diagnose` in a system VM, over ssh (reference 1.16)."""

from __future__ import annotations

import json
import secrets
import shlex
import zipfile
from collections.abc import Sequence
from datetime import timedelta
from io import BytesIO
from pathlib import Path

from attrs import frozen
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from systemvm.management.child_process import CommandError, run
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.state import instances
from systemvm.management.state.columns import now
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from systemvm.management.system_vms.secure_shell import SshAccess, VmSshLogin
from systemvm.service.slowness import TimeoutScale, unscaled

PROGRAM = "/opt/systemvm/current/bin/systemvm-diagnose"
RUN_TIMEOUT_S = 130.0  # longer than the guest's own limit for the program
COLLECT_TIMEOUT_S = 300.0
#: CloudStack's diagnostics.data.max.file.age.
RETENTION = timedelta(days=1)
MAX_BYTES = 64 * 1024 * 1024


@frozen
class DiagnosticsResult:
    """CloudStack's `diagnostics` object; the exit code is a string there."""

    stdout: str
    stderr: str
    exitcode: str


class Diagnostics:
    """Runs the diagnostics program in running system VMs."""

    _log = Logger()

    def __init__(
        self,
        database: Database,
        ssh: SshAccess,
        directory: Path,
        *,
        timeout_scale: TimeoutScale = unscaled,
    ) -> None:
        """`directory` holds the collected zips, each in a folder with a random name."""
        self._database = database
        self._ssh = ssh
        self._directory = directory
        self._timeout_scale = timeout_scale

    async def run(self, vm_uuid: str, kind: str, address: str, params: str) -> DiagnosticsResult:
        """Return the output of a program; as in CloudStack, exit code -1 means that it could not be run."""
        login = await self._login(vm_uuid)
        argv = [PROGRAM, "run", kind, address, *params.split()]
        try:
            answer = json.loads(await self._run(login, argv, RUN_TIMEOUT_S))
            return DiagnosticsResult(str(answer["stdout"]), str(answer["stderr"]), str(answer["exitcode"]))
        except CommandError as error:
            return DiagnosticsResult("", str(error), "-1")
        except (ValueError, KeyError, TypeError):
            return DiagnosticsResult("", f"output of {PROGRAM} in {login.name} is not a result", "-1")

    async def collect(self, vm_uuid: str, files: Sequence[str]) -> Path:
        """Collect files of a system VM into a zip and return its path.

        Raises: HypervisorError when the system VM does not run or sends no valid zip.
        """
        login = await self._login(vm_uuid)
        self._log.info("{name}: collecting diagnostics", name=login.name)
        try:
            data = await self._run(login, [PROGRAM, "collect", *files], COLLECT_TIMEOUT_S)
        except CommandError as error:
            raise HypervisorError(
                f"diagnostics of {login.name} cannot be collected: {error}",
                f'check that "systemvm ssh {login.name}" works',
            ) from error
        return await deferToThread(self._keep, login.name, data)

    def forget_old(self) -> None:
        """Delete zips that are older than a day."""
        oldest = (now() - RETENTION).timestamp()
        for folder in self._directory.iterdir() if self._directory.is_dir() else ():
            if folder.stat().st_mtime < oldest:
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()

    def find(self, token: str, name: str) -> Path | None:
        """Return the path of a zip by its URL's parts; None when there is no such zip."""
        if not token.isalnum() or "/" in name or name.startswith("."):
            return None
        path = self._directory / token / name
        return path if path.is_file() else None

    async def _login(self, vm_uuid: str) -> VmSshLogin:
        vm: Instance = await self._database.read(instances.by_uuid, vm_uuid)
        if vm.state is not InstanceState.RUNNING:
            raise HypervisorError(
                f"{vm.instance_name} is {vm.state.value}, diagnostics need a running system VM",
                vm.reason or 'see "systemvm system-vm list" for the reason',
            )
        return await self._ssh.login(vm)

    async def _run(self, login: VmSshLogin, argv: list[str], timeout_s: float) -> bytes:
        with login.command_line(shlex.join(argv)) as ssh:
            return await run(ssh, timeout_s=timeout_s * self._timeout_scale())

    def _keep(self, vm_name: str, data: bytes) -> Path:
        """Store the data if it is a zip: nothing else is ever sent to a browser."""
        try:
            with zipfile.ZipFile(BytesIO(data)) as zipped:
                broken = zipped.testzip()
        except zipfile.BadZipFile as error:
            raise HypervisorError(f"{vm_name} sent an invalid zip", str(error)) from error
        if broken is not None or len(data) > MAX_BYTES:
            raise HypervisorError(
                f"zip of {vm_name} cannot be used", broken or f"it must not exceed {MAX_BYTES} bytes"
            )
        folder = self._directory / secrets.token_hex(16)
        folder.mkdir(parents=True, mode=0o700)
        path = folder / f"{vm_name}-diagnostics-{now():%Y%m%d-%H%M%S}.zip"
        path.write_bytes(data)
        return path
