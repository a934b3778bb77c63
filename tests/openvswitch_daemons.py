# SPDX-License-Identifier: Apache-2.0
"""Open vSwitch's two programs in a host's namespace, with their files below the host's root."""

from __future__ import annotations

import pwd
import shutil
import subprocess
from pathlib import Path

from integration.daemon_lab import until
from systemvm.host.layout import NETWORK_USER, Layout

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")


class OpenVSwitchDaemons:
    """`ovsdb-server` and `ovs-vswitchd`; the network helper's group can write to their socket."""

    def __init__(self, namespace: str, layout: Layout) -> None:
        self._namespace = namespace
        self.socket = layout.ovsdb_socket
        self._directory = self.socket.parent
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        # of Debian's unit; the directories above it are the daemon's
        self._directory.chmod(0o755)
        database = self._directory / "conf.db"
        if not database.exists():
            subprocess.run(["ovsdb-tool", "create", database, SCHEMA], check=True, timeout=60)
        self._start("ovsdb-server", database, f"--remote=punix:{self.socket}")
        until(self.socket.is_socket, "socket of ovsdb-server")
        shutil.chown(self.socket, group=pwd.getpwnam(NETWORK_USER).pw_gid)
        self.socket.chmod(0o770)
        self.start_switch()

    def start_switch(self) -> None:
        self._start("ovs-vswitchd", f"unix:{self.socket}")
        self.vsctl("--retry", "init")  # waits until it obeys

    def kill(self, program: str) -> None:
        process = self._running.pop(program)
        process.kill()
        process.wait(60)

    def stop(self) -> None:
        for program in list(self._running):
            self.kill(program)
        self.socket.unlink(missing_ok=True)

    def vsctl(self, *arguments: str) -> str:
        command = ["ovs-vsctl", f"--db=unix:{self.socket}", "--timeout=120", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=240).stdout

    def _start(self, program: str, *arguments: object) -> None:
        options = [
            f"--pidfile={self._directory / f'{program}.pid'}",
            f"--unixctl={self._directory / f'{program}.ctl'}",
            "--log-file=/dev/null",
        ]
        command = ["ip", "netns", "exec", self._namespace, program, *map(str, arguments), *options]
        self._running[program] = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=(self._directory / f"{program}.log").open("ab")
        )
