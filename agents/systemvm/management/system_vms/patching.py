# SPDX-License-Identifier: Apache-2.0
"""Replaces the agent of a running system VM: installs it over ssh, and rolls back unless it comes Up.

It uses ssh and not the control channel, so that it can also replace an agent of an incompatible protocol. The
archive contains systemvm/guest/patch.py, which does the work in the guest.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, cast

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from systemvm.host.guest_code import GuestCodeError
from systemvm.management.asyncio_bridge import in_asyncio, in_twisted
from systemvm.management.control.agent import Agent
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.state.instances import Instance
from systemvm.management.system_vms import patch_bundle
from systemvm.management.system_vms.boot_arguments import ROLES
from systemvm.management.system_vms.patch_bundle import PatchBundle
from systemvm.management.system_vms.secure_shell import SshAccess, VmSshLogin
from systemvm.service.scaled_timer import add_scaled_timeout
from systemvm.service.slowness import TimeoutScale, unscaled
from systemvm.wire.patch_failure import PatchFailure

#: Deadlines before the timeout scale.
INSTALL_S = 120.0  # login, unpacking, compilation, start of the agent
UP_S = 60.0  # from the agent's start to Up
SETTLE_S = 60.0  # commit or rollback
START_S = 45.0  # the guest's limit for the start of a unit

_REMOTE = (
    "set -eu; d=/run/systemvm-patch; rm -rf $d; mkdir -m 700 $d; "
    "head -c {size} | tar -xzf - -C $d; exec /usr/bin/python3 -IS $d/patch.py $d"
)
_RECOVER = "d=/run/systemvm-patch; exec /usr/bin/python3 -IS $d/patch.py $d recover"
_LINE_BYTES = 64 * 1024
_STDERR_BYTES = 2000

#: Returns why the new agent must be rolled back, "" when it is good.
Verify = Callable[[], Coroutine[Deferred[Any], Any, str]]


@frozen
class PatchResult:
    """The result of a patch."""

    changed: bool
    version: str


class AgentPatching:
    """Sends one bundle to one system VM; the caller holds the VM's lock."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        directory: AgentDirectory,
        ssh: SshAccess,
        replacement: Path,
        *,
        timeout_scale: TimeoutScale = unscaled,
    ) -> None:
        self._clock = clock
        self._directory = directory
        self._ssh = ssh
        #: Replaces the daemon's own code when the directory exists.
        self._replacement = replacement
        self._timeout_scale = timeout_scale
        self._waiting: dict[str, tuple[str, Deferred[None]]] = {}

    def subscribe(self) -> None:
        """Learn when a patched agent is up."""
        self._directory.on_status(self._status_changed)

    async def patch(self, vm: Instance, *, forced: bool) -> PatchResult:
        """Replace the agent of a system VM.

        Raises: HypervisorError when the system VM continues with its old agent.
        """
        bundle = await self._bundle(vm)
        if not forced and vm.agent_version == bundle.version:
            return PatchResult(False, bundle.version)
        login = await self._ssh.login(vm)
        self._log.info("{name}: patching to {version}", name=vm.instance_name, version=bundle.version)
        await in_asyncio(self._install(login, bundle, lambda: self._verify(vm.instance_name, bundle.version)))
        return PatchResult(True, bundle.version)

    async def _bundle(self, vm: Instance) -> PatchBundle:
        source = self._replacement if self._replacement.is_dir() else patch_bundle.own_code()
        start_timeout_s = START_S * self._timeout_scale()
        try:
            return await deferToThread(
                patch_bundle.build, ROLES[vm.type], source, start_timeout_s=start_timeout_s
            )
        except (GuestCodeError, OSError) as error:
            raise HypervisorError(f"no code to patch with: {error}") from error

    # ---- in the guest: asyncio's side

    async def _install(self, login: VmSshLogin, bundle: PatchBundle, verify: Verify) -> None:
        guest = _PatchSession(login.name, self._timeout_scale)
        remote = _REMOTE.format(size=len(bundle.archive))
        async with guest.running(login, remote):
            answer = await guest.send(bundle.archive, INSTALL_S)
            why_not = ""
            if answer.get("step") == "trial":
                why_not = await in_twisted(verify())
                answer = await guest.send(b"undo\n" if why_not else b"keep\n", SETTLE_S)
        match answer.get("step"):
            case "kept":
                return
            case "undone":
                why_not = why_not or answer["error"]
            case _:
                # Killed in its middle: the state of the guest is unknown.
                async with guest.running(login, _RECOVER):
                    await guest.send(b"", SETTLE_S)
                why_not = f"patch was interrupted: {answer['error']}"
        self._log.warn(
            "{name} was not patched: {why}",
            name=login.name,
            why=why_not,
            reason=str(answer.get("reason") or PatchFailure.INTERRUPTED.value),
        )
        raise HypervisorError(
            f"{login.name} was not patched and continues with its old agent: {why_not}",
            answer.get("hint", ""),
        )

    # ---- the verdict: Twisted's side

    async def _verify(self, name: str, version: str) -> str:
        agent = self._directory.agent(name)
        if agent is None:
            return "the system VM no longer exists"
        if _runs(agent, version):
            return ""
        is_up: Deferred[None] = Deferred()
        self._waiting[agent.name] = (version, is_up)
        try:
            await add_scaled_timeout(is_up, UP_S, self._clock, self._timeout_scale)
        except DeferredTimeout:
            limit_s = UP_S * self._timeout_scale()
            state, reason = agent.status.state.value, agent.status.reason
            return f"agent of version {version} was not Up within {limit_s:.0f} s ({state}: {reason})"
        finally:
            del self._waiting[agent.name]
        return ""

    def _status_changed(self, agent: Agent) -> None:
        version, is_up = self._waiting.get(agent.name, ("", None))
        if is_up is not None and not is_up.called and _runs(agent, version):
            is_up.callback(None)


class _PatchSession:
    """A program in the guest over ssh; it answers with lines of JSON."""

    def __init__(self, name: str, timeout_scale: TimeoutScale) -> None:
        self._name = name
        self._timeout_scale = timeout_scale

    @contextlib.asynccontextmanager
    async def running(self, login: VmSshLogin, command: str) -> AsyncIterator[None]:
        """Run a command; its end makes the guest roll back, unless it was told to commit."""
        with login.command_line(command) as argv:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=_LINE_BYTES
            )
            self._stdin = cast(asyncio.StreamWriter, process.stdin)
            self._stdout = cast(asyncio.StreamReader, process.stdout)
            self._stderr = cast(asyncio.StreamReader, process.stderr)
            try:
                yield
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    async def send(self, data: bytes, timeout_s: float) -> dict[str, Any]:
        """Send data and return the guest's answer; without one, a mapping with `error` and no `step`."""
        limit_s = timeout_s * self._timeout_scale()
        try:
            async with asyncio.timeout(limit_s):
                with contextlib.suppress(ConnectionError):  # stderr has the reason
                    self._stdin.write(data)
                    await self._stdin.drain()
                line = await self._stdout.readline()
                if not line:
                    stderr = (await self._stderr.read(_STDERR_BYTES)).decode(errors="replace").strip()
                    return self._no_answer(f"ssh ended: {stderr or 'without a message'}")
                fact = json.loads(line)
        except TimeoutError:
            return self._no_answer(f"no answer within {limit_s:.0f} s")
        except ValueError as error:
            return self._no_answer(f"invalid answer: {error}")
        return fact if isinstance(fact, dict) else self._no_answer("invalid answer")

    def _no_answer(self, error: str) -> dict[str, Any]:
        return {"error": error, "hint": f'check that "systemvm ssh {self._name}" works'}


def _runs(agent: Agent, version: str) -> bool:
    return agent.is_up and agent.hello is not None and agent.hello.agent_version == version
