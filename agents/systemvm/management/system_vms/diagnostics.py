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
from systemvm.management.system_vms.secure_shell import Login, SshAccess
from systemvm.service.slowness import TimeoutScale, unscaled

PROGRAM = "/opt/systemvm/current/bin/systemvm-diagnose"
RUN_TIMEOUT_S = 130.0  # more than the guest's own for its program
COLLECT_TIMEOUT_S = 300.0
#: CloudStack's diagnostics.data.max.file.age.
KEPT_FOR = timedelta(days=1)
MAX_BYTES = 64 * 1024 * 1024


@frozen
class DiagnosticsResult:
    """CloudStack's `diagnostics` object; the exit code is a string there."""

    stdout: str
    stderr: str
    exitcode: str


class Diagnostics:
    """Asks running system VMs; an answer is an answer, whatever its exit code."""

    _log = Logger()

    def __init__(
        self,
        database: Database,
        logins: SshAccess,
        directory: Path,
        *,
        timeout_scale: TimeoutScale = unscaled,
    ) -> None:
        """`directory` is where collected zips lie, each under a name that cannot be guessed."""
        self._database = database
        self._logins = logins
        self._directory = directory
        self._timeout_scale = timeout_scale

    async def run(self, vm_uuid: str, kind: str, address: str, params: str) -> DiagnosticsResult:
        """Its output; an exit code of -1 when the system VM cannot be asked, as in CloudStack."""
        login = await self._login(vm_uuid)
        words = [PROGRAM, "run", kind, address, *params.split()]
        try:
            said = await self._ask(login, words, RUN_TIMEOUT_S)
            answer = json.loads(said)
            return DiagnosticsResult(str(answer["stdout"]), str(answer["stderr"]), str(answer["exitcode"]))
        except CommandError as error:
            return DiagnosticsResult("", str(error), "-1")
        except (ValueError, KeyError, TypeError):
            return DiagnosticsResult("", f"{login.name} answered something else than a diagnosis", "-1")

    async def collect(self, vm_uuid: str, files: Sequence[str]) -> Path:
        """A zip on the shelf; HypervisorError when there is none to be had."""
        login = await self._login(vm_uuid)
        self._log.info("{name}: collecting diagnostics", name=login.name)
        try:
            data = await self._ask(login, [PROGRAM, "collect", *files], COLLECT_TIMEOUT_S)
        except CommandError as error:
            raise HypervisorError(
                f"{login.name} cannot be asked: {error}", f"`systemvm ssh {login.name}` must work for this"
            ) from error
        return await deferToThread(self._keep, login.name, data)

    def forget_old(self) -> None:
        """Delete what has lain there for longer than a day."""
        oldest = (now() - KEPT_FOR).timestamp()
        for folder in self._directory.iterdir() if self._directory.is_dir() else ():
            if folder.stat().st_mtime < oldest:
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()

    def find(self, token: str, name: str) -> Path | None:
        """A zip by its address; None for any other."""
        if not token.isalnum() or "/" in name or name.startswith("."):
            return None
        path = self._directory / token / name
        return path if path.is_file() else None

    async def _login(self, vm_uuid: str) -> Login:
        vm: Instance = await self._database.read(instances.by_uuid, vm_uuid)
        if vm.state is not InstanceState.RUNNING:
            raise HypervisorError(
                f"{vm.instance_name} is {vm.state.value}; only a running system VM can be asked",
                vm.reason or "`systemvm system-vm list` tells why",
            )
        return await self._logins.of(vm)

    async def _ask(self, login: Login, words: list[str], timeout_s: float) -> bytes:
        with login.command_line(shlex.join(words)) as argv:
            return await run(argv, timeout_s=timeout_s * self._timeout_scale())

    def _keep(self, vm_name: str, data: bytes) -> Path:
        """Only what is a zip is ever given to a browser."""
        try:
            with zipfile.ZipFile(BytesIO(data)) as zipped:
                broken = zipped.testzip()
        except zipfile.BadZipFile as error:
            raise HypervisorError(f"{vm_name} sent something else than a zip", str(error)) from error
        if broken is not None or len(data) > MAX_BYTES:
            raise HypervisorError(f"{vm_name} sent a zip that cannot be used", broken or "it is too large")
        folder = self._directory / secrets.token_hex(16)
        folder.mkdir(parents=True, mode=0o700)
        path = folder / f"{vm_name}-diagnostics-{now():%Y%m%d-%H%M%S}.zip"
        path.write_bytes(data)
        return path
