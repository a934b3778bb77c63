# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of a patch: when it keeps, undoes or recovers one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet.defer import Deferred, DeferredList, DeferredQueue

from settling import settled
from systemvm.management.control.agent import AgentStatus
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.state import events, instances
from systemvm.management.state.status import AgentState
from systemvm.management.system_vms import patch_bundle, patching
from systemvm.service.slowness import TimeoutScale
from systemvm.wire.agent import Hello
from systemvm.wire.role import Role

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHostKeyOfTheGuest"
TRIAL, KEPT, UNDONE = (
    {"step": "trial"},
    {"step": "kept"},
    {"step": "undone", "error": "undo was requested"},
)
SSH_FAILED = {"error": "ssh ended: killed", "hint": "look"}


class Guest:
    """The guest's end of ssh, with prepared answers."""

    def __init__(self, answers: list[dict[str, Any]]) -> None:
        self.answers = answers
        self.commands: list[str] = []
        self.sent: list[bytes] = []
        self._sends: DeferredQueue[None] = DeferredQueue()

    def __call__(self, name: str, timeout_scale: TimeoutScale) -> Guest:
        return self

    @contextlib.asynccontextmanager
    async def running(self, login: Any, command: str) -> AsyncIterator[None]:
        with login.command_line(command) as argv:
            self.commands.append(argv[-1])
        yield

    async def send(self, data: bytes, timeout_s: float) -> dict[str, Any]:
        self.sent.append(data)
        self._sends.put(None)
        return self.answers.pop(0)

    async def next_send(self, patched: Deferred[Any]) -> None:
        """Wait until something was sent; a patch that fails before that raises its own error here."""
        await DeferredList([self._sends.get(), patched], fireOnOneCallback=True, fireOnOneErrback=True)


class FakePeer:
    """A connection without calls."""


@pytest.fixture(scope="module")
def version() -> str:
    return patch_bundle.build(Role.SSVM, patch_bundle.own_code(), start_timeout_s=1).version


def up(host: Any, version: str) -> None:
    agent = host.directory.agent("s-1-VM")
    agent.peer = FakePeer()
    agent.hello = Hello(1, "s-1-VM", "ssvm", version, "0.1.0", "", "boot", 0.0)
    host.directory.set_status(agent, AgentStatus(AgentState.UP))


async def begun(
    host: Any, monkeypatch: pytest.MonkeyPatch, guest: Guest, *, forced: bool = False, **columns: Any
) -> Deferred[Any]:
    await host.reconciler.scan()
    vm = await host.database.read(instances.by_instance_name, "s-1-VM")
    await host.database.run(
        instances.update, vm.id, **{"host_keys": [KEY], "agent_version": "0.0.1", **columns}
    )
    monkeypatch.setattr(patching, "_PatchSession", guest)
    return Deferred.fromCoroutine(host.lifecycle.patch(vm.uuid, forced=forced))


@pytest_twisted.ensureDeferred
async def test_patch_is_kept_when_the_agent_comes_up(
    host: Any, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    guest = Guest([TRIAL, KEPT])
    patched = await begun(host, monkeypatch, guest)
    await guest.next_send(patched)
    up(host, "0.0.1")  # the old agent reconnects before it ends
    await settled(host.database)
    assert len(guest.sent) == 1
    up_again = evolve(host.directory.agent("s-1-VM").hello, agent_version=version)
    host.directory.agent("s-1-VM").hello = up_again
    host.directory.set_status(host.directory.agent("s-1-VM"), AgentStatus(AgentState.CONNECTING))
    host.directory.set_status(host.directory.agent("s-1-VM"), AgentStatus(AgentState.UP))
    assert (await patched).version == version
    assert guest.sent[-1] == b"keep\n"
    [command] = guest.commands
    assert f"head -c {len(guest.sent[0])} " in command
    [event] = await host.database.read(events.newest, 1)
    assert (event.type, event.description) == ("SSVM.PATCH", f"s-1-VM runs agent {version}")


@pytest_twisted.ensureDeferred
async def test_patch_is_rolled_back_when_the_agent_does_not_come_up(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = Guest([TRIAL, UNDONE])
    patched = await begun(host, monkeypatch, guest)
    await guest.next_send(patched)
    await settled(host.database)
    assert host.clock.getDelayedCalls()
    host.clock.advance(patching.UP_S + 1)
    with pytest.raises(HypervisorError, match=r"continues with its old agent: .* was not Up within 60 s"):
        await patched
    assert guest.sent[-1] == b"undo\n"


@pytest_twisted.ensureDeferred
async def test_interrupted_patch_is_recovered(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest([SSH_FAILED, SSH_FAILED])
    patched = await begun(host, monkeypatch, guest)
    with pytest.raises(HypervisorError, match="patch was interrupted: ssh ended: killed"):
        await patched
    assert [command.endswith("recover") for command in guest.commands] == [False, True]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("suffix", ["", "+00000000"], ids=["of an older image", "of another tree"])
async def test_other_code_of_the_same_version_is_patched(
    host: Any, monkeypatch: pytest.MonkeyPatch, version: str, suffix: str
) -> None:
    guest = Guest([TRIAL, KEPT])
    same = version.partition("+")[0] + suffix
    patched = await begun(host, monkeypatch, guest, agent_version=same)
    await guest.next_send(patched)
    up(host, version)
    assert (await patched).changed


@pytest_twisted.ensureDeferred
async def test_current_agent_is_patched_only_when_forced(
    host: Any, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    guest = Guest([TRIAL, KEPT])
    assert not (await (await begun(host, monkeypatch, guest, agent_version=version))).changed
    assert guest.commands == []
    up(host, version)
    patched = await begun(host, monkeypatch, guest, agent_version=version, forced=True)
    assert (await patched).changed


@pytest_twisted.ensureDeferred
async def test_unknown_host_key_prevents_a_login(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest([])
    patched = await begun(host, monkeypatch, guest, host_keys=[])
    with pytest.raises(HypervisorError, match="has no known ssh host keys"):
        await patched
    assert guest.commands == []
