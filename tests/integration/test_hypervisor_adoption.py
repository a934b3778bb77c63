# SPDX-License-Identifier: Apache-2.0
"""Machines that outlive their daemon, and how the next one finds them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from integration.qemu_lab import (
    Exits,
    NoTaps,
    files,
    hypervisor,
    machine,
    rfb_accepts,
    run_directory,
)
from systemvm.host.accelerator import Accelerator
from systemvm.management.hypervisors.base import DomainState, ExitReason, VncSpec
from systemvm.management.hypervisors.qemu import QemuHypervisor

pytestmark = pytest.mark.timeout(120)

TESTS = Path(__file__).resolve().parents[1]
AGENTS = TESTS.parent / "agents"

__all__ = ["hypervisor", "run_directory"]  # fixtures


def kill_child(pid: int) -> None:
    """End a child of this process and reap it, as init does after the daemon's end."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def runs(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


#: What the record of release 0.1.0 has: no serial port, and no TLS of the screen.
FIELDS_OF_0_1_0 = ("is_system", "name", "taps", "uuid", "vnc_address", "vnc_port")


@pytest_twisted.ensureDeferred
async def test_a_machine_of_the_last_release_runs_on_in_the_same_process(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path
) -> None:
    first = QemuHypervisor(run_directory, NoTaps(), Accelerator.TCG)
    started = await first.start(machine(tmp_path, vnc=VncSpec("127.0.0.1", 0, "before")))
    await first.close()
    record = run_directory / "i-2-3-VM.json"
    written = json.loads(record.read_text())
    record.write_text(json.dumps({name: written[name] for name in FIELDS_OF_0_1_0}))
    adopted = await hypervisor.adopt()
    assert adopted["i-2-3-VM"].pid == started.pid
    assert adopted["i-2-3-VM"].state is DomainState.RUNNING
    await hypervisor.set_vnc_password("i-2-3-VM", "after")
    assert await deferToThread(rfb_accepts, started.vnc_port or 0, "after")
    await hypervisor.disks("i-2-3-VM").resize("disk0", 4 << 20)


@pytest_twisted.ensureDeferred
async def test_a_new_driver_finds_the_machine_and_is_notified_of_its_end(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path
) -> None:
    first = QemuHypervisor(run_directory, NoTaps(), Accelerator.TCG)
    started = await first.start(machine(tmp_path, vnc=VncSpec("127.0.0.1", 0, "before")))
    await first.close()
    exits = Exits(hypervisor)
    adopted = await hypervisor.adopt()
    assert adopted == {"i-2-3-VM": started}
    await hypervisor.set_vnc_password("i-2-3-VM", "after")
    assert started.vnc_port
    assert await deferToThread(rfb_accepts, started.vnc_port, "after")
    assert started.pid
    os.kill(started.pid, signal.SIGKILL)
    assert await exits.next() == ("i-2-3-VM", ExitReason.KILLED)
    assert await hypervisor.adopt() == {}


CHILD = """
import os, signal, sys
from pathlib import Path
from twisted.internet import asyncioreactor
asyncioreactor.install()
from twisted.internet import reactor
from twisted.internet.defer import Deferred
sys.path[:0] = {path!r}
from integration.qemu_lab import NoTaps, machine
from systemvm.host.accelerator import Accelerator
from systemvm.management.hypervisors.qemu import QemuHypervisor

async def work():
    driver = QemuHypervisor(Path({run!r}), NoTaps(), Accelerator.TCG)
    status = await driver.start(machine(Path({tmp!r})))
    print(status.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

def start():
    Deferred.fromCoroutine(work()).addErrback(lambda f: print(f.getTraceback(), flush=True))

reactor.callWhenRunning(start)
reactor.callLater(240, reactor.stop)
reactor.run()
"""


@pytest_twisted.ensureDeferred
async def test_a_machine_outlives_a_killed_daemon(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path
) -> None:
    script = CHILD.format(path=[str(AGENTS), str(TESTS)], run=str(run_directory), tmp=str(tmp_path))

    def daemon() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=240, check=False
        )

    done = await deferToThread(daemon)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    pid = int(done.stdout)
    adopted = await hypervisor.adopt()
    assert adopted["i-2-3-VM"].pid == pid
    assert adopted["i-2-3-VM"].state is DomainState.RUNNING
    await hypervisor.stop("i-2-3-VM", forced=True)
    assert not runs(pid)


KILLED_AT_THE_FORK = """
import os, signal
real = os.posix_spawn

def spawn(program, argv, *rest, **more):
    print(real(program, argv, *rest, **more), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

os.posix_spawn = spawn
"""


@pytest_twisted.ensureDeferred
async def test_a_machine_whose_daemon_was_killed_before_its_pid_file_is_found(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path
) -> None:
    """QEMU waits with stopped CPUs for a command that never comes, so it is ended."""
    script = KILLED_AT_THE_FORK + CHILD.format(
        path=[str(AGENTS), str(TESTS)], run=str(run_directory), tmp=str(tmp_path)
    )

    def daemon() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=240, check=False
        )

    done = await deferToThread(daemon)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    (run_directory / "i-2-3-VM.pid").unlink(missing_ok=True)
    adopted = await hypervisor.adopt()
    assert adopted["i-2-3-VM"].state is DomainState.EXITED
    assert not runs(int(done.stdout))
    assert files(run_directory) == []
    again = await hypervisor.start(machine(tmp_path))
    assert again.state is DomainState.RUNNING


@pytest_twisted.ensureDeferred
async def test_a_running_machine_is_adopted_without_its_pid_file(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path
) -> None:
    first = QemuHypervisor(run_directory, NoTaps(), Accelerator.TCG)
    started = await first.start(machine(tmp_path))
    await first.close()
    (run_directory / "i-2-3-VM.pid").unlink()
    assert await hypervisor.adopt() == {"i-2-3-VM": started}


@pytest_twisted.ensureDeferred
async def test_a_machine_that_ended_meanwhile_is_reported_once(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path
) -> None:
    first = QemuHypervisor(run_directory, NoTaps(), Accelerator.TCG)
    started = await first.start(machine(tmp_path))
    await first.close()
    assert started.pid
    kill_child(started.pid)
    adopted = await hypervisor.adopt()
    assert adopted["i-2-3-VM"].state is DomainState.EXITED
    assert adopted["i-2-3-VM"].exit_reason is ExitReason.UNKNOWN
    assert files(run_directory) == []


@pytest_twisted.ensureDeferred
async def test_another_process_with_the_same_pid_is_not_ended(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path
) -> None:
    first = QemuHypervisor(run_directory, NoTaps(), Accelerator.TCG)
    started = await first.start(machine(tmp_path))
    await first.close()
    assert started.pid
    kill_child(started.pid)
    (run_directory / "i-2-3-VM.pid").write_text(f"{os.getpid()}\n")
    adopted = await hypervisor.adopt()
    assert adopted["i-2-3-VM"].state is DomainState.EXITED


@pytest_twisted.ensureDeferred
async def test_an_unfinished_start_is_ended(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon was killed before it set the VNC password, so the machine must not be used."""
    from systemvm.management.hypervisors.qmp import QmpSession

    first = QemuHypervisor(run_directory, NoTaps(), Accelerator.TCG)
    real = QmpSession.execute

    async def no_cont(self: QmpSession, command: str, *rest: object, **more: object) -> object:
        return None if command == "cont" else await real(self, command, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(QmpSession, "execute", no_cont)
    started = await first.start(machine(tmp_path))
    await first.close()
    adopted = await hypervisor.adopt()
    assert adopted["i-2-3-VM"].state is DomainState.EXITED
    assert files(run_directory) == []
    assert started.pid
