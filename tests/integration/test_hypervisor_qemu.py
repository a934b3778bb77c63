# SPDX-License-Identifier: Apache-2.0
"""The qemu driver with real QEMU processes; their guests are boot sectors of a few bytes."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from PIL import Image
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from systemvm.cpvm.rfb import vnc_auth_response
from systemvm.host.accelerator import Accelerator
from systemvm.management.hypervisors.base import Disk, DomainSpec, DomainState, ExitReason, VncSpec
from systemvm.management.hypervisors.errors import DomainNotFoundError, HypervisorError
from systemvm.management.hypervisors.qemu import QemuHypervisor

pytestmark = pytest.mark.timeout(120)

AGENTS = Path(__file__).resolve().parents[2] / "agents"

#: 16-bit code for q35: what a guest does that this driver has to notice.
POWER_OFF = bytes.fromhex("ba0406 b80020 ef f4 ebfd")  # out 0x604, 0x2000: S5
RESET = bytes.fromhex("b0fe e664 f4 ebfd")  # the keyboard controller's reset line
IDLE = bytes.fromhex("f4 ebfd")
DEAF = bytes.fromhex("fa f4 ebfd")  # halts with interrupts off: no button reaches it
#: enable the power button, wait for it, power off
OBEDIENT = bytes.fromhex("ba0206 b80001 ef ba0006 ed f6c401 74fa") + POWER_OFF
#: 320 by 200 pixels, all of them white
WHITE = bytes.fromhex("b81300 cd10 b800a0 8ec0 31ff b900fa b00f f3aa") + IDLE


class NoTaps:
    """These guests have no network."""

    async def create_tap(self, name: str, bridge: str, *, isolated: bool) -> int:
        raise AssertionError("nobody asked for a tap")

    async def remove_tap(self, name: str) -> None:
        raise AssertionError("there is no tap")


def boot_sector(path: Path, code: bytes) -> Disk:
    path.write_bytes(
        code.ljust(510, b"\0") + b"\x55\xaa" + bytes(2 << 20)
    )  # a BIOS wants a cylinder at least
    return Disk(path, "raw")


def machine(tmp_path: Path, code: bytes = IDLE, **changes: Any) -> DomainSpec:
    spec = DomainSpec(
        name="i-2-3-VM",
        uuid=str(uuid.uuid4()),
        memory_mib=32,
        vcpus=1,
        nics=[],
        serial_log=tmp_path / "log" / "serial.log",
        disk=boot_sector(tmp_path / "disk.raw", code),
    )
    return evolve(spec, **changes)


class Exits:
    """Exits as they are told, to be waited for."""

    def __init__(self, hypervisor: QemuHypervisor) -> None:
        self.seen: list[tuple[str, ExitReason]] = []
        self._waiting: list[Deferred[tuple[str, ExitReason]]] = []
        hypervisor.on_exit(self._on_exit)

    def _on_exit(self, name: str, reason: ExitReason) -> None:
        self.seen.append((name, reason))
        for waiting in self._waiting:
            waiting.callback((name, reason))
        self._waiting.clear()

    async def next(self) -> tuple[str, ExitReason]:
        if not self.seen:
            waiting: Deferred[tuple[str, ExitReason]] = Deferred()
            self._waiting.append(waiting)
            await waiting.addTimeout(60, reactor)
        return self.seen.pop(0)


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    return tmp_path / "a-rather-long-name-of-a-directory-as-people-have-them" / ("x" * 60) / "qmp"


@pytest_twisted.async_yield_fixture
async def hypervisor(run_directory: Path) -> AsyncIterator[QemuHypervisor]:
    driver = QemuHypervisor(run_directory, NoTaps(), Accelerator.TCG)
    yield driver
    await driver.stop("i-2-3-VM", forced=True)
    await driver.close()


def files(run_directory: Path, pattern: str = "*") -> list[str]:
    return sorted(path.name for path in run_directory.glob(pattern))


def contents(run_directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in run_directory.iterdir() if path.is_file())


def kill_child(pid: int) -> None:
    """End a child of this process and reap it, as a daemon's death would leave it to init."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def runs(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def cmdline(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def rfb_accepts(port: int, password: str | None) -> bool:
    """A VNC client's handshake up to the server's verdict."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.settimeout(20)
        stream = connection.makefile("rwb", buffering=0)
        assert stream.read(12) == b"RFB 003.008\n"
        stream.write(b"RFB 003.008\n")
        [count] = stream.read(1) or b"\0"
        offered = stream.read(count)
        assert offered == b"\x02", "only VNC authentication is offered"
        if password is None:
            stream.write(b"\x01")
            return stream.read(4) == bytes(4)
        stream.write(b"\x02")
        challenge = stream.read(16)
        assert challenge
        stream.write(vnc_auth_response(challenge, password))
        return stream.read(4) == bytes(4)


# ---- starting -------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_start_stop_and_nothing_is_left(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path
) -> None:
    exits = Exits(hypervisor)
    status = await hypervisor.start(machine(tmp_path))
    assert status.state is DomainState.RUNNING
    assert status.pid and os.getsid(status.pid) == status.pid, "a session of its own"
    await hypervisor.stop("i-2-3-VM", forced=True)
    assert await exits.next() == ("i-2-3-VM", ExitReason.STOPPED)
    assert files(run_directory) == []
    await hypervisor.stop("i-2-3-VM", forced=True)
    assert not exits.seen


@pytest_twisted.ensureDeferred
async def test_credentials_are_in_a_private_file_until_qemu_greets_and_never_in_argv(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, bytes]] = []
    from systemvm.management.hypervisors import process

    real = process.DetachedProcess.start.__func__  # type: ignore[attr-defined]

    def look(cls: type[process.DetachedProcess], /, *arguments: Any, **rest: Any) -> Any:
        for path in run_directory.glob("*.smbios*"):
            seen.append((path.name, path.stat().st_mode & 0o777, path.read_bytes()))
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
    assert sorted((name, mode) for name, mode, _ in seen) == [
        ("i-2-3-VM.smbios0", 0o640),
        ("i-2-3-VM.smbios1", 0o640),
    ]
    assert files(run_directory, "*.smbios*") == []
    assert status.pid
    argv = cmdline(status.pid)
    assert "type=11,path=" in argv
    for _, _, content in seen:
        assert content.split(b"=", 1)[1].decode() not in argv
    assert "pass1234" not in argv
    assert b"pass1234" not in contents(run_directory)


@pytest_twisted.ensureDeferred
async def test_qemus_own_words_are_in_the_error_and_the_end_is_told_to_the_caller_alone(
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


# ---- ends -----------------------------------------------------------------------------------------------


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
async def test_a_killed_process_is_told_apart(hypervisor: QemuHypervisor, tmp_path: Path) -> None:
    exits = Exits(hypervisor)
    status = await hypervisor.start(machine(tmp_path))
    assert status.pid
    os.kill(status.pid, signal.SIGKILL)
    assert await exits.next() == ("i-2-3-VM", ExitReason.KILLED)


@pytest_twisted.ensureDeferred
async def test_the_power_button_is_pressed_first(hypervisor: QemuHypervisor, tmp_path: Path) -> None:
    await hypervisor.start(machine(tmp_path, OBEDIENT))
    # the BIOS must have given way to the guest, which says nothing; a stop that came too early would time out
    await deferLater(reactor, 4, lambda: None)
    began = reactor.seconds()
    await hypervisor.stop("i-2-3-VM", timeout_s=40)
    assert reactor.seconds() - began < 20


@pytest_twisted.ensureDeferred
async def test_a_guest_that_ignores_the_button_is_ended(hypervisor: QemuHypervisor, tmp_path: Path) -> None:
    exits = Exits(hypervisor)
    await hypervisor.start(machine(tmp_path, DEAF))
    await hypervisor.stop("i-2-3-VM", timeout_s=1)
    assert await exits.next() == ("i-2-3-VM", ExitReason.STOPPED)


@pytest_twisted.ensureDeferred
async def test_a_stopped_process_is_killed(
    hypervisor: QemuHypervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A QEMU that answers nothing at all."""
    monkeypatch.setattr("systemvm.management.hypervisors.qemu.QUIT_S", 1.0)
    status = await hypervisor.start(machine(tmp_path))
    assert status.pid
    os.kill(status.pid, signal.SIGSTOP)
    await hypervisor.stop("i-2-3-VM", forced=True)
    stopped = hypervisor.status("i-2-3-VM")
    assert stopped and stopped.state is DomainState.EXITED


# ---- adoption -------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_new_driver_finds_the_machine_and_hears_its_end(
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
from test_hypervisor_qemu import NoTaps, machine
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
reactor.callLater(60, reactor.stop)
reactor.run()
"""


@pytest_twisted.ensureDeferred
async def test_a_machine_outlives_a_killed_daemon(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path
) -> None:
    script = CHILD.format(
        path=[str(AGENTS), str(Path(__file__).parent)], run=str(run_directory), tmp=str(tmp_path)
    )

    def daemon() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
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
    """QEMU of that moment waits for its CPUs to be let go, which nobody will do: it is ended, not lost."""
    script = KILLED_AT_THE_FORK + CHILD.format(
        path=[str(AGENTS), str(Path(__file__).parent)], run=str(run_directory), tmp=str(tmp_path)
    )

    def daemon() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
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
async def test_a_machine_that_ended_meanwhile_is_reported_and_forgotten(
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
async def test_a_stranger_with_the_old_number_is_left_alone(
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
async def test_a_start_that_was_never_finished_is_ended(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon died before it set the screen's password; nobody may use such a machine."""
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


# ---- screens --------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_screen_needs_its_password(hypervisor: QemuHypervisor, tmp_path: Path) -> None:
    status = await hypervisor.start(machine(tmp_path, vnc=VncSpec("127.0.0.1", 0, "goodpass")))
    port = status.vnc_port
    assert port and 5900 <= port <= 6100
    assert await deferToThread(rfb_accepts, port, "goodpass")
    assert not await deferToThread(rfb_accepts, port, "badpass!")
    assert not await deferToThread(rfb_accepts, port, "")
    assert not await deferToThread(rfb_accepts, port, None)
    await hypervisor.set_vnc_password("i-2-3-VM", "newpass!")
    assert not await deferToThread(rfb_accepts, port, "goodpass")
    assert await deferToThread(rfb_accepts, port, "newpass!")


@pytest_twisted.ensureDeferred
async def test_a_port_that_somebody_took_meanwhile_is_passed_over(
    hypervisor: QemuHypervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from systemvm.management.hypervisors import qemu, qemu_program

    real = qemu_program.free_vnc_port
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        answers = iter([busy])
        monkeypatch.setattr(qemu, "free_vnc_port", lambda vnc, ports: next(answers, None) or real(vnc, ports))
        status = await hypervisor.start(machine(tmp_path, vnc=VncSpec("127.0.0.1", 0, "x")))
    assert status.vnc_port and status.vnc_port != busy


@pytest_twisted.ensureDeferred
async def test_a_screenshot_shows_what_the_guest_drew(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path
) -> None:
    await hypervisor.start(machine(tmp_path, WHITE, vnc=VncSpec("127.0.0.1", 0, "x")))
    for _ in range(60):
        image = Image.open(io.BytesIO(await hypervisor.screenshot("i-2-3-VM")))
        white = sum(image.convert("L").histogram()[250:])
        if white > 0.95 * image.width * image.height:
            break
        await deferLater(reactor, 0.5, lambda: None)
    else:
        raise AssertionError("the screen did not turn white")
    assert image.format == "PNG"
    assert files(run_directory, "*.png") == []


@pytest_twisted.ensureDeferred
async def test_commands_to_a_machine_that_does_not_run(hypervisor: QemuHypervisor) -> None:
    for command in (
        hypervisor.screenshot("no"),
        hypervisor.reset("no"),
        hypervisor.set_vnc_password("no", "x"),
    ):
        with pytest.raises(DomainNotFoundError, match="no does not run"):
            await command


# ---- network --------------------------------------------------------------------------------------------

NETWORK = """
import json, subprocess, sys
from pathlib import Path
from twisted.internet import asyncioreactor
asyncioreactor.install()
from twisted.internet import reactor
from twisted.internet.defer import Deferred
sys.path[:0] = {path!r}
from test_hypervisor_qemu import machine
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
        async def create_tap(name, bridge, *, isolated):
            return await deferToThread(links.make_tap, name, bridge, isolated=isolated)
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
    script = NETWORK.format(path=[str(AGENTS), str(Path(__file__).parent)], tmp=str(tmp_path))
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", script],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == ['[["cloud0", true, true], ["cloudbr0", false, true]]', "[]"], (
        done.stderr
    )
