# SPDX-License-Identifier: Apache-2.0
"""`systemvm-managementd` as a process in its own network namespace, with real machines that only halt.

The system VM images have a kernel of a few bytes, which is enough to test that machines outlive the daemon.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import define, field

from systemvm.host.host_file import FILE_NAME
from systemvm.host.layout import Layout
from systemvm.lab import children, namespaces
from systemvm.lab.children import ChildProcess
from systemvm.lab.host_programs import HostProgram, helper_sockets
from systemvm.lab.notify_socket import NotifySocket
from systemvm.lab.reporting import NullStep
from systemvm.management.first_start import FirstLogin
from systemvm.management.samples import read_sample
from systemvm.management.system_vms.secure_shell import READ_KEY_S
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.http.unix import unix_call
from systemvm.service.slowness import MAX_SCALE, scaled_s

CALL_S = 300.0
_NUMBERS = itertools.count()  # of the hosts of this process
MANAGEMENT_ADDRESS = "10.11.0.1"  # of the host, in the sample of a zone
#: The longest time for which the daemon waits for a guest agent that never answers, on a slow machine.
LONGEST_READ_S = READ_KEY_S * MAX_SCALE
#: A multiboot kernel (flags: addresses are in the header) that halts for ever at 0x100020.
_FLAGS, _MAGIC, _AT = 0x10000, 0x1BADB002, 0x100000
_FIELDS = [_MAGIC, _FLAGS, (-_MAGIC - _FLAGS) & 0xFFFFFFFF, _AT, _AT, 0, 0, _AT + 0x20]
IDLE_KERNEL = b"".join(number.to_bytes(4, "little") for number in _FIELDS) + bytes.fromhex("f4 ebfd")


def until(condition: Callable[[], Any], what: str, timeout_s: float = 240.0) -> Any:
    began_s = time.monotonic()
    while True:
        try:
            found = condition()
        except (OSError, RpcError):
            found = None
        if found:
            return found
        waited_s = time.monotonic() - began_s
        assert waited_s < scaled_s(timeout_s), f"no {what} after {waited_s:.0f} s"
        time.sleep(0.05)


def write_image(directory: Path, role: str) -> None:
    files = {f"{role}.vmlinuz": IDLE_KERNEL, f"{role}.initrd": b"nothing"}
    for name, data in files.items():
        (directory / name).write_bytes(data)
    disk = directory / f"{role}.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"], check=True, timeout=120)
    names = [*files, disk.name]
    manifest = {
        "role": role,
        "version": "0.0.1",
        "arch": "amd64",
        "disk": disk.name,
        "kernel": f"{role}.vmlinuz",
        "initrd": f"{role}.initrd",
        "append": "none",
        "sha256": {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in names},
        "root_sha256": "",
    }
    (directory / f"{role}.manifest.json").write_text(json.dumps(manifest))


@define
class Host:
    """A namespace, a root directory, and the daemon that runs there now."""

    namespace: str
    layout: Layout
    listener: socket.socket
    process: subprocess.Popen[bytes] | None = None
    helpers: list[ChildProcess] = field(factory=list)
    child: ChildProcess = field(init=False)
    log: Path = field(init=False)
    _login: FirstLogin | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.log = self.layout.root / "daemon.log"

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    @property
    def login(self) -> FirstLogin:
        """That of the administrator, whose file this deletes."""
        self._login = self._login or FirstLogin.take(self.layout.first_login)
        assert self._login is not None
        return self._login

    @property
    def root_command(self) -> list[str]:
        return [sys.executable, "-m", "systemvm.management", "--root", str(self.layout.root)]

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of the daemon as its own user, without inherited sockets."""
        program = HostProgram.DAEMON.argv(self.layout)
        return ["ip", "netns", "exec", self.namespace, *map(str, program), *arguments]

    def start(self) -> None:
        """Start the daemon in the namespace with the page's socket, as systemd does; wait for READY=1."""
        notify = namespaces.inside(self.namespace, NotifySocket)
        if not self.helpers:
            for program, listener in helper_sockets(self.layout).items():
                self.helpers.append(self._child(program, {"helper": listener}))
        try:
            self.child = self._child(
                HostProgram.DAEMON, {"page": self.listener}, {"NOTIFY_SOCKET": notify.address}
            )
            self.process = self.child.process
            notify.wait(self.child, NullStep())
        finally:
            notify.close()

    def _child(
        self,
        program: HostProgram,
        sockets: dict[str, socket.socket],
        environment: dict[str, str] | None = None,
    ) -> ChildProcess:
        argv = program.argv(self.layout)
        return children.start(
            program.name, self.namespace, argv, self.log, sockets=sockets, environment=environment,
            own_mounts=program.own_mounts,
        )  # fmt: skip

    def end(self, how: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(timeout=scaled_s(60.0))
        self.process = None
        return code

    def call(self, called: str, /, **params: Any) -> Any:
        return unix_call(str(self.layout.socket), called, params, timeout_s=CALL_S)

    def machines(self) -> dict[str, dict[str, Any]]:
        return {vm["name"]: vm for vm in self.call("listSystemVms").get("systemvm", [])}

    def pids(self) -> dict[str, int]:
        """Return the pids of running machines, independently of the daemon."""
        found = {}
        for path in (self.layout.run / "qemu").glob("*.pid"):
            try:
                pid = int(path.read_text())
            except (FileNotFoundError, ValueError):
                continue  # of a machine that starts or ends now
            if Path(f"/proc/{pid}").exists():
                found[path.stem] = pid
        return found

    def both_running(self) -> dict[str, int]:
        def running() -> bool:
            return [vm["state"] for vm in self.machines().values()] == ["Running", "Running"]

        until(running, f"two running machines ({self.log.read_text()[-3000:]})")
        return self.pids()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with host_with(tmp_path) as host:
        yield host


@pytest.fixture(scope="module")
def shared_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A started daemon for tests that change nothing of it: they give its answers, or only read."""
    with host_with(tmp_path_factory.mktemp("shared")) as host:
        host.start()
        yield host


@contextmanager
def host_with(tmp_path: Path, *, zone_file: bool = True) -> Iterator[Host]:
    """Make a host with the sample's zone in a file, or with the same labels in `host.yaml` and no zone."""
    layout = Layout(tmp_path / "root")
    layout.prepare()
    images = layout.root / "images"
    images.mkdir()
    for role in ("ssvm", "cpvm"):
        write_image(images, role)
    zone = yaml.safe_load(read_sample("zone.yaml"))
    zone["image_stores"][0]["host_path"] = str(layout.root / "store")
    zone["system_vms"] = {role: {"memory_mib": 32} for role in ("ssvm", "cpvm")}
    if zone_file:
        (layout.zones / "zone1.yaml").write_text(yaml.safe_dump(zone))
    else:
        (layout.etc / FILE_NAME).write_text(read_sample("host.yaml"))
    listener = socket.create_server(("127.0.0.1", 0))
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    management = {
        "page": {"origin": origin},
        "hypervisor": {"accelerator": "tcg"},
        "image_source": str(images),
        "supervision": {"scan_interval_s": 0.5},
        "metrics": {"listen": MANAGEMENT_ADDRESS},
    }
    layout.config_file.write_text(yaml.safe_dump(management))
    namespace = f"svm-core-{os.getpid()}-{next(_NUMBERS)}"
    subprocess.run(["ip", "netns", "add", namespace], check=True, timeout=60)
    host = Host(namespace, layout, listener)
    try:
        subprocess.run(["ip", "-n", namespace, "link", "set", "lo", "up"], check=True, timeout=60)
        yield host
    finally:
        if host.process is not None:
            host.end(signal.SIGKILL)
        for pid in host.pids().values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for helper in host.helpers:
            helper.stop()
        listener.close()
        subprocess.run(["ip", "netns", "del", namespace], check=False, timeout=60)
