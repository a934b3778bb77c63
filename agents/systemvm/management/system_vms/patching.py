# SPDX-License-Identifier: Apache-2.0
"""A new agent for a running system VM: sent over ssh, tried there, kept when it comes Up, else taken back.

Over ssh and not over the channel, so that an agent that this daemon cannot talk to any more gets the one that
it can. What happens in the guest is systemvm/guest/patch.py, which goes there with the code.
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

from systemvm.management.asyncio_bridge import in_asyncio, in_twisted
from systemvm.management.control.agent import Agent
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.state.instances import Instance
from systemvm.management.system_vms import patch_bundle
from systemvm.management.system_vms.boot_arguments import ROLES
from systemvm.management.system_vms.patch_bundle import BundleError, PatchBundle
from systemvm.management.system_vms.secure_shell import Login, SshAccess
from systemvm.service.scaled_timer import add_scaled_timeout
from systemvm.service.slowness import TimeoutScale, unscaled

#: Deadlines before the timeout scale.
INSTALL_S = 120.0  # logging in, unpacking, compiling, starting the agent
UP_S = 60.0  # from the agent's start to Up
SETTLE_S = 60.0  # keeping it or taking it back
START_S = 45.0  # a unit's start, as the guest waits for it

_REMOTE = (
    "set -eu; d=/run/systemvm-patch; rm -rf $d; mkdir -m 700 $d; "
    "head -c {size} | tar -xzf - -C $d; exec /usr/bin/python3 -IS $d/patch.py $d"
)
_RECOVER = "d=/run/systemvm-patch; exec /usr/bin/python3 -IS $d/patch.py $d recover"
_LINE_BYTES = 64 * 1024
_SAID_BYTES = 2000

#: Why the new agent is not to be kept, "" when it is.
Judge = Callable[[], Coroutine[Deferred[Any], Any, str]]


@frozen
class PatchResult:
    """What became of it."""

    changed: bool
    version: str


class AgentPatching:
    """One bundle to one system VM; the caller holds the VM's turn."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        directory: AgentDirectory,
        logins: SshAccess,
        replacement: Path,
        *,
        timeout_scale: TimeoutScale = unscaled,
    ) -> None:
        self._clock = clock
        self._directory = directory
        self._logins = logins
        #: Sent instead of the daemon's own code when it is there.
        self._replacement = replacement
        self._timeout_scale = timeout_scale
        self._waiting: dict[str, tuple[str, Deferred[None]]] = {}

    def subscribe(self) -> None:
        """Learn when a patched agent is up."""
        self._directory.on_status(self._status_changed)

    async def patch(self, vm: Instance, *, forced: bool) -> PatchResult:
        """HypervisorError says why the system VM goes on with the agent that it had."""
        bundle = await self._bundle(vm)
        if not forced and bundle.is_run_by(vm.agent_version):
            return PatchResult(False, str(vm.agent_version))
        login = await self._logins.of(vm)
        self._log.info("{name}: patching to {version}", name=vm.instance_name, version=bundle.version)
        await in_asyncio(self._converse(login, bundle, lambda: self._judge(vm.instance_name, bundle.version)))
        return PatchResult(True, bundle.version)

    async def _bundle(self, vm: Instance) -> PatchBundle:
        source = self._replacement if self._replacement.is_dir() else patch_bundle.own_code()
        start_timeout_s = START_S * self._timeout_scale()
        try:
            return await deferToThread(
                patch_bundle.build, ROLES[vm.type], source, start_timeout_s=start_timeout_s
            )
        except (BundleError, OSError) as error:
            raise HypervisorError(f"there is nothing to patch with: {error}") from error

    # ---- in the guest: asyncio's side

    async def _converse(self, login: Login, bundle: PatchBundle, judge: Judge) -> None:
        guest = _Guest(login.name, self._timeout_scale)
        remote = _REMOTE.format(size=len(bundle.archive))
        async with guest.running(login, remote):
            said = await guest.send(bundle.archive, INSTALL_S)
            why_not = ""
            if said.get("step") == "trial":
                why_not = await in_twisted(judge())
                said = await guest.send(b"undo\n" if why_not else b"keep\n", SETTLE_S)
        match said.get("step"):
            case "kept":
                return
            case "undone":
                why_not = why_not or said["error"]
            case _:
                # Killed in its middle: what runs there may be anything.
                async with guest.running(login, _RECOVER):
                    await guest.send(b"", SETTLE_S)
                why_not = f"the patch was cut off: {said['error']}"
        raise HypervisorError(f"{login.name} goes on with its old agent: {why_not}", said.get("hint", ""))

    # ---- the verdict: Twisted's side

    async def _judge(self, name: str, version: str) -> str:
        agent = self._directory.agent(name)
        if agent is None:
            return "the system VM is gone"
        if _runs(agent, version):
            return ""
        came: Deferred[None] = Deferred()
        self._waiting[agent.name] = (version, came)
        try:
            await add_scaled_timeout(came, UP_S, self._clock, self._timeout_scale)
        except DeferredTimeout:
            limit_s = UP_S * self._timeout_scale()
            state, reason = agent.status.state.value, agent.status.reason
            return f"the agent of version {version} was not Up within {limit_s:.0f} s ({state}: {reason})"
        finally:
            del self._waiting[agent.name]
        return ""

    def _status_changed(self, agent: Agent) -> None:
        version, came = self._waiting.get(agent.name, ("", None))
        if came is not None and not came.called and _runs(agent, version):
            came.callback(None)


class _Guest:
    """The other end of one ssh after another: lines of JSON."""

    def __init__(self, name: str, timeout_scale: TimeoutScale) -> None:
        self._name = name
        self._timeout_scale = timeout_scale

    @contextlib.asynccontextmanager
    async def running(self, login: Login, command: str) -> AsyncIterator[None]:
        """Its end is the guest's sign to go back, if there was no word to keep it."""
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
        """What the guest says to `data`; one without a `step`, but an `error`, when it says nothing."""
        limit_s = timeout_s * self._timeout_scale()
        try:
            async with asyncio.timeout(limit_s):
                with contextlib.suppress(ConnectionError):  # its words tell more
                    self._stdin.write(data)
                    await self._stdin.drain()
                line = await self._stdout.readline()
                if not line:
                    said = (await self._stderr.read(_SAID_BYTES)).decode(errors="replace").strip()
                    return self._silence(f"ssh ended: {said or 'without a word'}")
                fact = json.loads(line)
        except TimeoutError:
            return self._silence(f"nothing came for {limit_s:.0f} s")
        except ValueError as error:
            return self._silence(f"what came is no answer: {error}")
        return fact if isinstance(fact, dict) else self._silence("what came is no answer")

    def _silence(self, error: str) -> dict[str, Any]:
        return {"error": error, "hint": f"`systemvm ssh {self._name}` must work for this"}


def _runs(agent: Agent, version: str) -> bool:
    return agent.is_up and agent.hello is not None and agent.hello.agent_version == version
