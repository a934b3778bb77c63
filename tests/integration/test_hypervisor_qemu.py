# SPDX-License-Identifier: Apache-2.0
"""Start and stop real QEMU machines, and connect them to bridges."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve

from integration.qemu_lab import (
    HANDLES_BUTTON,
    INTERRUPTS_OFF,
    POWER_OFF,
    RESET,
    Exits,
    NoTaps,
    files,
    hypervisor,
    machine,
    run_directory,
)
from rpc_wait import until
from systemvm.host.accelerator import Accelerator
from systemvm.management.hypervisors.base import Disk, DomainState, ExitReason, VncSpec
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.hypervisors.qemu import QemuHypervisor

pytestmark = pytest.mark.timeout(120)

TESTS = Path(__file__).resolve().parents[1]
AGENTS = TESTS.parent / "agents"

__all__ = ["hypervisor", "run_directory"]  # fixtures


def contents(run_directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in run_directory.iterdir() if path.is_file())


def cmdline(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


@pytest_twisted.ensureDeferred
async def test_start_stop_and_nothing_is_left(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path
) -> None:
    exits = Exits(hypervisor)
    status = await hypervisor.start(machine(tmp_path))
    assert status.state is DomainState.RUNNING
    assert status.pid and os.getsid(status.pid) == status.pid, "QEMU is not in its own session"
    await hypervisor.stop("i-2-3-VM", forced=True)
    assert await exits.next() == ("i-2-3-VM", ExitReason.STOPPED)
    assert files(run_directory) == []
    await hypervisor.stop("i-2-3-VM", forced=True)
    assert not exits.seen


@pytest_twisted.ensureDeferred
async def test_credentials_are_in_a_private_file_until_qemu_greets_and_never_in_argv(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials: list[tuple[str, int, bytes]] = []
    from systemvm.management.hypervisors import process

    real = process.DetachedProcess.start.__func__  # type: ignore[attr-defined]

    def look(cls: type[process.DetachedProcess], /, *arguments: Any, **rest: Any) -> Any:
        for path in run_directory.glob("*.smbios*"):
            credentials.append((path.name, path.stat().st_mode & 0o777, path.read_bytes()))
        return real(cls, *arguments, **rest)

    monkeypatch.setattr(process.DetachedProcess, "start", classmethod(look))
    status = await hypervisor.start(
        machine(
            tmp_path,
            credentials={"systemvm.identity": b"KEY" * 9, "systemvm.cmdline": b"a=b"},
            vnc=VncSpec("127.0.0.1", 0, "pass1234"),
            is_system=True,
        )
    )
    assert sorted((name, mode) for name, mode, _ in credentials) == [
        ("i-2-3-VM.smbios0", 0o640),
        ("i-2-3-VM.smbios1", 0o640),
    ]
    assert files(run_directory, "*.smbios*") == []
    assert status.pid
    argv = cmdline(status.pid)
    assert "type=11,path=" in argv
    for _, _, content in credentials:
        assert content.split(b"=", 1)[1].decode() not in argv
    assert "pass1234" not in argv
    assert b"pass1234" not in contents(run_directory)


@pytest_twisted.ensureDeferred
async def test_qemus_message_is_in_the_error_and_only_the_caller_is_notified(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path
) -> None:
    exits = Exits(hypervisor)
    spec = machine(tmp_path)
    broken = evolve(spec, disk=Disk(spec.disk.path, "qcow2") if spec.disk else None)
    with pytest.raises(HypervisorError, match="Image is not in qcow2 format"):
        await hypervisor.start(broken)
    assert hypervisor.status("i-2-3-VM") is None
    assert files(run_directory) == []
    assert not exits.seen
    await hypervisor.start(spec)


@pytest_twisted.ensureDeferred
async def test_a_missing_qemu_and_a_second_start_are_errors(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path
) -> None:
    absent = QemuHypervisor(run_directory, NoTaps(), Accelerator.TCG, binary="qemu-system-no")
    with pytest.raises(HypervisorError, match="qemu-system-no is not installed"):
        await absent.start(machine(tmp_path))
    await hypervisor.start(machine(tmp_path))
    with pytest.raises(HypervisorError, match="runs already"):
        await hypervisor.start(machine(tmp_path))


@pytest.mark.parametrize(
    ("code", "is_system", "reason"),
    [
        pytest.param(POWER_OFF, False, ExitReason.GUEST_SHUTDOWN, id="power-off"),
        pytest.param(POWER_OFF, True, ExitReason.GUEST_SHUTDOWN, id="system-vm-power-off"),
        pytest.param(RESET, True, ExitReason.GUEST_RESET, id="system-vm-reset"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_guest_that_ends_itself(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path,
    code: bytes, is_system: bool, reason: ExitReason,
) -> None:  # fmt: skip
    exits = Exits(hypervisor)
    await hypervisor.start(machine(tmp_path, code, is_system=is_system))
    assert await exits.next() == ("i-2-3-VM", reason)
    status = hypervisor.status("i-2-3-VM")
    assert status and status.state is DomainState.EXITED and status.exit_reason is reason
    assert files(run_directory) == []


@pytest_twisted.ensureDeferred
async def test_a_killed_process_has_its_own_exit_reason(hypervisor: QemuHypervisor, tmp_path: Path) -> None:
    exits = Exits(hypervisor)
    status = await hypervisor.start(machine(tmp_path))
    assert status.pid
    os.kill(status.pid, signal.SIGKILL)
    assert await exits.next() == ("i-2-3-VM", ExitReason.KILLED)


@pytest_twisted.ensureDeferred
async def test_the_power_button_is_pressed_first(hypervisor: QemuHypervisor, tmp_path: Path) -> None:
    spec = machine(tmp_path, HANDLES_BUTTON)
    await hypervisor.start(spec)
    await until(lambda: spec.serial_log.exists() and spec.serial_log.read_bytes() == b".")
    # far longer than this test may take: it does not end in time by force
    await hypervisor.stop("i-2-3-VM", timeout_s=36_000)


@pytest_twisted.ensureDeferred
async def test_a_guest_that_ignores_the_button_is_ended(hypervisor: QemuHypervisor, tmp_path: Path) -> None:
    exits = Exits(hypervisor)
    await hypervisor.start(machine(tmp_path, INTERRUPTS_OFF))
    await hypervisor.stop("i-2-3-VM", timeout_s=1)
    assert await exits.next() == ("i-2-3-VM", ExitReason.STOPPED)


@pytest_twisted.ensureDeferred
async def test_a_stopped_process_is_killed(
    hypervisor: QemuHypervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU does not answer on its monitor."""
    monkeypatch.setattr("systemvm.management.hypervisors.qemu.QUIT_S", 1.0)
    status = await hypervisor.start(machine(tmp_path))
    assert status.pid
    os.kill(status.pid, signal.SIGSTOP)
    await hypervisor.stop("i-2-3-VM", forced=True)
    stopped = hypervisor.status("i-2-3-VM")
    assert stopped and stopped.state is DomainState.EXITED


NETWORK = """
import json, subprocess, sys
from pathlib import Path
from twisted.internet import asyncioreactor
asyncioreactor.install()
from twisted.internet import reactor
from twisted.internet.defer import Deferred
sys.path[:0] = {path!r}
from integration.qemu_lab import machine
from systemvm.host.accelerator import Accelerator
from systemvm.management.hypervisors.base import DomainNic
from systemvm.management.hypervisors.qemu import QemuHypervisor
from systemvm.nethelper import links
from twisted.internet.threads import deferToThread
from systemvm.host.bridges import HostNetwork

def ports():
    links = json.loads(subprocess.check_output(["ip", "-d", "-j", "link", "show", "type", "tun"]))
    return sorted(
        (link["master"], link["linkinfo"]["info_slave_data"]["isolated"], "LOWER_UP" in link["flags"])
        for link in links if link
    )

async def work():
    await deferToThread(links.ensure_bridge, HostNetwork.of("cloud0", ["control"], "169.254.0.1/16"))
    await deferToThread(links.ensure_bridge, HostNetwork.of("cloudbr0", ["public"]))

    class networks:
        async def create_tap(name, bridge, *, isolated, vlan=None):
            return await deferToThread(links.make_tap, name, bridge, isolated=isolated, vlan=vlan)
        async def remove_tap(name):
            await deferToThread(links.remove_tap, name)

    driver = QemuHypervisor(Path({tmp!r}) / "qmp", networks, Accelerator.TCG)
    nics = [
        DomainNic("control", "cloud0", "0e:00:a9:fe:03:07"),
        DomainNic("public", "cloudbr0", "1e:00:00:00:00:01"),
    ]
    await driver.start(machine(Path({tmp!r}), nics=nics))
    print(json.dumps(ports()))
    await driver.stop("i-2-3-VM", forced=True)
    print(json.dumps(ports()))

def start():
    d = Deferred.fromCoroutine(work()).addErrback(lambda f: print(f.getTraceback()))
    d.addBoth(lambda _: reactor.stop())
reactor.callWhenRunning(start)
reactor.run()
"""


@pytest.mark.netns
def test_network_cards_are_ports_of_their_bridges(tmp_path: Path) -> None:
    script = NETWORK.format(path=[str(AGENTS), str(TESTS)], tmp=str(tmp_path))
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", script],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == ['[["cloud0", true, true], ["cloudbr0", false, true]]', "[]"], (
        done.stderr
    )
