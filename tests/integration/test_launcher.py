# SPDX-License-Identifier: Apache-2.0
"""The launcher as its unit runs it: it starts real QEMU as another user, only for the daemon's user."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from systemvm.host.layout import DAEMON_USER, QEMU_USER, Layout
from systemvm.lab import children
from systemvm.lab.children import ChildProcess
from systemvm.lab.host_programs import HostProgram, as_user, helper_sockets
from systemvm.launcher.arguments import SANDBOX

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

AGENTS = Path(__file__).resolve().parents[2] / "agents"
ID = str(uuid.uuid4())
MACHINE = [
    *("qemu-system-x86_64", "-uuid", ID, "-nodefaults", "-no-user-config", "-S", "-accel", "tcg,tb-size=16"),
    *("-m", "16M", "-display", "none", "-sandbox", SANDBOX),
]


class Host:
    def __init__(self, layout: Layout, namespace: str) -> None:
        self.layout = layout
        self.namespace = namespace
        self.launcher = self.start()

    def start(self) -> ChildProcess:
        argv = HostProgram.LAUNCHER.argv(self.layout)
        listener = helper_sockets(self.layout)[HostProgram.LAUNCHER]
        log = self.layout.root / "launcher.log"
        with listener:
            return children.start("launcher", self.namespace, argv, log, sockets={"helper": listener})

    def run(self, user: str, script: str) -> str:
        done = subprocess.run(
            [
                *("ip", "netns", "exec", self.namespace),
                *(*as_user(user, [self.layout.root]), sys.executable, "-c", script),
            ],
            env={**os.environ, "PYTHONPATH": str(AGENTS)},
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        return (done.stdout + done.stderr).strip()

    def send_request(self, user: str = DAEMON_USER, /, **request: object) -> str:
        return self.run(
            user,
            f"""
import os
from pathlib import Path
from systemvm.service.unix_calls import RefusedError, call
request = {request!r}
given = [os.open("/dev/null", os.O_WRONLY)] if request.get("do") == "start" else []
try:
    print(call(Path({str(self.layout.launcher_socket)!r}), request, given)[0])
except (RefusedError, OSError) as error:
    print(type(error).__name__, error)
""",
        )

    def pid(self) -> int:
        answer = self.send_request(do="start", argv=MACHINE)
        assert answer.startswith("{'pid': "), answer
        return int(answer.split()[1].rstrip("}"))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    layout = Layout(tmp_path / "root")
    layout.prepare()
    namespace = f"lt{os.getpid()}"
    subprocess.run(["ip", "netns", "add", namespace], check=True, timeout=60)
    host = Host(layout, namespace)
    try:
        yield host
    finally:
        for number in subprocess.check_output(["ip", "netns", "pids", namespace], text=True).split():
            with suppress(ProcessLookupError):
                os.kill(int(number), signal.SIGKILL)
        host.launcher.process.wait(120)
        subprocess.run(["ip", "netns", "del", namespace], check=False, timeout=60)


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def test_a_machine_is_qemus_users_and_outlives_the_launcher(host: Host) -> None:
    pid = host.pid()
    assert Path(f"/proc/{pid}").owner() == QEMU_USER
    found = status(pid)
    assert (found["CapEff"], found["CapBnd"], found["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    host.launcher.kill()
    assert Path(f"/proc/{pid}").exists()
    host.launcher = host.start()
    assert host.send_request(do="find", uuid=ID) == f"{{'pid': {pid}}}"
    # the daemon itself cannot signal it
    assert "PermissionError" in host.run(DAEMON_USER, f"import os; os.kill({pid}, 9)")
    descriptor = os.pidfd_open(pid)
    assert host.send_request(do="kill", pid=pid, uuid=ID) == "{}"
    assert select.select([descriptor], [], [], 120)[0]
    os.close(descriptor)
    assert host.send_request(do="find", uuid=ID) == "{'pid': None}"


def test_the_exit_code_of_a_killed_machine_is_reported(host: Host) -> None:
    pid = host.pid()
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert select.select([descriptor], [], [], 120)[0]
    os.close(descriptor)
    assert host.send_request(do="exit-code", pid=pid) == "{'code': -9}"


def test_a_process_that_is_not_a_machine_is_not_killed(host: Host) -> None:
    assert "is not VM" in host.send_request(do="kill", pid=host.launcher.process.pid, uuid=ID)
    assert "is not VM" in host.send_request(do="kill", pid=1, uuid=ID)
    assert host.send_request(do="kill", pid=2**22 - 1, uuid=ID) == "{}"
    assert "RefusedError" in host.send_request(do="kill", pid=1, uuid="x; reboot")
    assert host.launcher.running


def test_another_program_is_not_started(host: Host) -> None:
    assert "is not QEMU" in host.send_request(do="start", argv=["/bin/sh", "-c", "id"])
    assert "unknown operation" in host.send_request(do="setuid")


@pytest.mark.parametrize("user", ["daemon", QEMU_USER])
def test_only_the_daemons_user_can_connect(host: Host, user: str) -> None:
    assert host.send_request(user, do="find", uuid=ID).startswith("PermissionError")


def test_garbage_ends_neither_the_launcher_nor_its_service(host: Host) -> None:
    for data in (b"", b"\xff\x00", b"[" * 5000, b"[]", b"x" * 70_000):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            descriptor = os.open(host.layout.run, os.O_PATH)
            connection.connect(f"/proc/self/fd/{descriptor}/launcher.sock")
            os.close(descriptor)
            try:
                connection.send(data)
            except OSError:
                continue  # the launcher closes root's connection before it reads
    garbage = """
import os, socket
for data in (b"\\xff\\x00", b"[" * 5000, b"[]", b"x" * 70_000):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(PATH)
        connection.send(data)
        print(connection.recv(1000)[:12])
"""
    path = f"/proc/self/fd/{{}}/{host.layout.launcher_socket.name}"
    script = f"import os\nPATH = {path!r}.format(os.open({str(host.layout.run)!r}, os.O_PATH))\n" + garbage
    assert host.run(DAEMON_USER, script).count('{"refused": ') == 4
    assert host.send_request(do="find", uuid=ID) == "{'pid': None}"


def test_qemus_user_reads_no_key_and_no_database(host: Host) -> None:
    (host.layout.pki / "control-ca.key").write_text("secret")
    (host.layout.pki / "control-ca.key").chmod(0o600)
    host.layout.database.write_text("rows")
    host.layout.database.chmod(0o640)
    for path in (host.layout.pki / "control-ca.key", host.layout.database):
        assert "PermissionError" in host.run(QEMU_USER, f"open({str(path)!r})")
    assert "PermissionError" in host.run(QEMU_USER, f"open('{host.layout.machines}/x', 'w')")
