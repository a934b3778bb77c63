# SPDX-License-Identifier: Apache-2.0
"""A guest on tap devices in its own namespace, started by QEMU directly, with a guest agent's channel."""

from __future__ import annotations

import base64
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmark.single_guest import SingleGuest
from systemvm.management.pki.control import ControlAuthority
from systemvm.service.slowness import scaled_s
from systemvm.wire import boot_arguments
from systemvm.wire.role import Role

TOP = Path(__file__).resolve().parents[2]
#: eth0, eth1, …: the host's address on each, and the guest's MAC.
HOST = ("169.254.0.1/16", "10.11.0.1/24", "203.0.113.1/24", "10.12.0.1/24")
HOST6 = "2001:db8:2::1/64"
GUEST6 = "2001:db8:2::5"
MACS = ("0e:00:a9:fe:0a:02", "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03")
UP_TIMEOUT_S = 400.0
PASSWORD = "hunter2-is-a-secret"


class TappedGuest(SingleGuest):
    """`delivery` is smbios, fw_cfg or agent; `order` is that of QEMU's NICs."""

    def __init__(
        self,
        role: Role,
        work: Path,
        delivery: str,
        more: dict[str, object],
        order: Sequence[int] | None = None,
    ) -> None:
        self.authority = ControlAuthority.open(work)
        super().__init__(role, work, self.authority, 3922, 512 if role is Role.SSVM else 256)
        self.work = work
        self.delivery = delivery
        self.more = more
        self.count = 4 if role is Role.SSVM else 3
        self.order = order or range(self.count)
        self.namespace = f"sv-{os.getpid()}-{role.value}-{delivery}"
        self.agent_socket = work / "agent.sock"
        self.bundle = self.authority.bootstrap(self.name, role).to_pem_bundle()
        self.extra: list[str] = []
        self.events: queue.Queue[str] = queue.Queue()

    def boot_arguments(self) -> str:
        arguments = boot_arguments.parse(super().boot_arguments()) | {"vmpassword": PASSWORD}
        for key, value in self.more.items():
            arguments[key] = str(value)
        arguments["nic_macs"] = "|".join(MACS[: self.count])
        return boot_arguments.format({key: value for key, value in arguments.items() if value})

    def command(self) -> list[str]:
        arguments = super().command()
        while "-smbios" in arguments:
            at = arguments.index("-smbios")
            del arguments[at : at + 2]
        files = {
            boot_arguments.CMDLINE_CREDENTIAL: self.boot_arguments().encode(),
            boot_arguments.IDENTITY_CREDENTIAL: self.bundle,
        }
        for name, content in files.items():
            path = self.work / name
            if self.delivery == "smbios":
                path.write_bytes(f"io.systemd.credential.binary:{name}=".encode() + base64.b64encode(content))
                arguments += ["-smbios", f"type=11,path={path}"]
            elif self.delivery == "fw_cfg":
                path.write_bytes(content)
                arguments += ["-fw_cfg", f"name=opt/io.systemd.credentials/{name},file={path}"]
        return [
            *arguments,
            "-chardev", f"socket,id=agent,path={self.agent_socket},server=on,wait=off",
            "-device", "virtio-serial-pci",
            "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
            *self.extra,
        ]  # fmt: skip

    def _nics(self) -> list[str]:
        arguments: list[str] = []
        for number in self.order:
            arguments += ["-netdev", f"tap,id=n{number},ifname=tap{number},script=no,downscript=no"]
            arguments += ["-device", f"virtio-net-pci,netdev=n{number},mac={MACS[number]},romfile="]
        return arguments

    def inside(self, *command: str, timeout_s: float = 90) -> subprocess.CompletedProcess[str]:
        """Run a program of the host in the guest's network namespace; `timeout_s` is scaled."""
        return subprocess.run(
            ["ip", "netns", "exec", self.namespace, *command],
            capture_output=True, text=True, timeout=scaled_s(timeout_s), check=False,
        )  # fmt: skip

    def ssh(self, *command: str, timeout_s: float = 90) -> subprocess.CompletedProcess[str]:
        return self.inside("ssh", *self.ssh_options("-p"), "root@169.254.10.2", *command, timeout_s=timeout_s)

    def ssh_options(self, port: str) -> list[str]:
        settings = (
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "BatchMode=yes",
        )
        options = [argument for setting in settings for argument in ("-o", setting)]
        return [*options, "-i", str(self._key), port, "3922"]

    def run(self, *command: str, timeout_s: float = 90) -> str:
        """Return the output of a command in the guest, which must succeed."""
        done = self.ssh(*command, timeout_s=timeout_s)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def wait_for(self, line: str) -> None:
        """Wait until the control side reports this event."""
        seen: list[str] = []
        deadline = time.monotonic() + scaled_s(UP_TIMEOUT_S)
        while line not in seen:
            try:
                seen.append(self.events.get(timeout=max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                tail = self.serial_log.read_text(errors="replace")[-2000:]
                raise AssertionError(f"no {line!r} in time, but {seen}; serial: {tail}") from None

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Start namespace, control side and guest; remove all of them afterwards."""
        subprocess.run(["ip", "netns", "add", self.namespace], check=True)
        processes: list[subprocess.Popen[bytes]] = []
        try:
            self._make_networks()
            origin = f"https://[{GUEST6}]:8443"
            side = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, sys.executable, "-m", "matrix.control_side",
                 str(self.work), origin], stdout=subprocess.PIPE, cwd=TOP / "tests",
            )  # fmt: skip
            processes.append(side)
            threading.Thread(target=self._read_events, args=(side,), daemon=True).start()
            self.wait_for("listening")
            guest = subprocess.Popen(["ip", "netns", "exec", self.namespace, *self.command()])
            processes.append(guest)
            yield guest
        finally:
            for process in processes:
                process.kill()
                process.wait()
            subprocess.run(["ip", "netns", "delete", self.namespace], check=True)

    def _read_events(self, side: subprocess.Popen[bytes]) -> None:
        assert side.stdout is not None
        for line in side.stdout:
            self.events.put(line.decode().strip())

    def _make_networks(self) -> None:
        lines = ["link set dev lo up"]
        for number in range(self.count):
            lines.append(f"tuntap add dev tap{number} mode tap")
            lines.append(f"address add {HOST[number]} dev tap{number}")
            if number == 2:
                lines.append(f"address add {HOST6} dev tap2 nodad")
            lines.append(f"link set dev tap{number} up")
        subprocess.run(
            ["ip", "-n", self.namespace, "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True
        )
