# SPDX-License-Identifier: Apache-2.0
"""One appliance on QEMU's user networks: it boots, connects to a daemon on loopback, and permits ssh.

QEMU itself is the host's end of each network, so the machine's interfaces are not used. It must run in a
network namespace, because the daemon's port on loopback is CloudStack's fixed 8250.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

from attrs import frozen

from systemvm.guest.firewall import CONSOLE_PORT
from systemvm.host.accelerator import Accelerator
from systemvm.host.architecture import Architecture
from systemvm.management.pki.control import ControlAuthority
from systemvm.wire import boot_arguments
from systemvm.wire.role import CONTROL_PORT, Role

TOP = Path(__file__).resolve().parents[2]
IMAGES = TOP / "build/images"
NAMES = {Role.SSVM: "s-1-VM", Role.CPVM: "v-2-VM"}
PUBLIC = "203.0.113"
NETWORKS = ("169.254", "10.11.0", PUBLIC, "10.12.0")


INSIDE = "SYSTEMVM_BENCH_NAMESPACE"


def enter_network_namespace() -> None:
    """Start this program again in a network namespace, unless it is in one.

    On its loopback CloudStack's port is free, and no service of this machine is reached.
    """
    if not os.environ.get(INSIDE):
        os.environ[INSIDE] = "1"
        inner = ["sh", "-c", 'ip link set lo up && exec "$@"', "bench", sys.executable, *sys.argv]
        os.execvp("unshare", ["unshare", "--net", *inner])


def accelerator(architecture: Architecture = Architecture.AMD64) -> list[str]:
    """Return the accelerator with which the images were built."""
    found = Accelerator((TOP / "build/accelerator").read_text().strip())
    return found.arguments_for(architecture)


@frozen
class Hardware:
    """The hardware of a guest: board, kernel loader, disk bus, delivery of credentials."""

    architecture: Architecture = Architecture.AMD64
    board: str = "q35"
    loader: Literal["kernel", "bios", "uefi"] = "kernel"
    disk: Literal["virtio", "ide"] = "virtio"
    credentials: Literal["smbios", "fw_cfg", "none"] = "smbios"

    def arguments(self, role: str) -> list[str]:
        """Return QEMU's arguments; changes of the image's disk are discarded."""
        manifest = json.loads((IMAGES / f"{self.architecture.image_name(role)}.manifest.json").read_text())
        arguments = [self.architecture.qemu, *accelerator(self.architecture), "-machine", self.board]
        arguments += ["-bios", str(self.architecture.uefi)] if self.loader == "uefi" else []
        if self.loader == "kernel":
            arguments += [
                "-kernel",
                str(IMAGES / manifest["kernel"]),
                "-initrd",
                str(IMAGES / manifest["initrd"]),
            ]
            arguments += ["-append", manifest["append"]]
        drive = f"file={IMAGES / manifest['disk']},if={self.disk},snapshot=on,file.locking=off"
        return [*arguments, "-drive", drive]

    def credential_arguments(self, files: dict[str, Path]) -> list[str]:
        """Return QEMU's arguments for credentials: systemd's SMBIOS strings or plain fw_cfg files."""
        if self.credentials == "smbios":
            return [option for path in files.values() for option in ("-smbios", f"type=11,path={path}")]
        prefix = "opt/io.systemd.credentials/"
        return [
            option
            for name, path in files.items()
            for option in ("-fw_cfg", f"name={prefix}{name},file={path}")
        ]


class SingleGuest:
    """A guest of a built image; changes of its disk are discarded."""

    def __init__(
        self,
        role: Role,
        work: Path,
        authority: ControlAuthority,
        ssh_port: int,
        memory_mib: int,
        hardware: Hardware | None = None,
        console_port: int | None = None,
    ) -> None:
        self.role = role
        self.hardware = hardware or Hardware()
        self.name = NAMES[role]
        self.serial_log = work / f"{self.name}.serial.log"
        self.address = "127.0.0.1"  # QEMU forwards its ssh port from here
        self.enter: list[str] = []  # command prefix of ssh that enters QEMU's network namespace
        self._work = work
        self._authority = authority
        self._ssh_port = ssh_port
        self._memory_mib = memory_mib
        self._console_port = console_port  # on loopback, where consoles are reached
        self._key = work / "operator"
        if not self._key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._key], check=True)

    def boot_arguments(self) -> str:
        public_key = base64.b64encode(self._key.with_suffix(".pub").read_bytes().strip()).decode()
        arguments: dict[str, object] = {
            "template": "domP", "type": self.role.boot_type, "host": "169.254.0.1", "port": CONTROL_PORT,
            "name": self.name, "zone": 1, "pod": 1, "guid": self.name, "authorized_key": public_key,
            "eth2ip": "203.0.113.101", "eth2mask": "255.255.255.0", "gateway": "203.0.113.1",
            "eth0ip": "169.254.10.2", "eth0mask": "255.255.0.0",
            "eth1ip": "10.11.0.101", "eth1mask": "255.255.255.0",
            "mgmtcidr": "10.11.0.0/24", "localgw": "10.11.0.1", "private.network.device": "eth1",
            "public.network.device": "eth2", "dns1": "203.0.113.10",
        }  # fmt: skip
        if self.role is Role.SSVM:
            arguments |= {
                "eth3ip": "10.12.0.101", "eth3mask": "255.255.255.0", "storageip": "10.12.0.101",
                "storagenetmask": "255.255.255.0", "storagegateway": "10.12.0.1", "nfsVersion": "4.2",
                "secondaryStorageServerAddress": "10.12.0.2",
            }  # fmt: skip
        else:
            arguments |= {"vncport": 8443}
        return boot_arguments.format(arguments)

    def command(self) -> list[str]:
        """Return QEMU's command line; the credentials are in files."""
        identity = self._authority.bootstrap(self.name, self.role)
        credentials = {
            boot_arguments.CMDLINE_CREDENTIAL: self.boot_arguments().encode(),
            boot_arguments.IDENTITY_CREDENTIAL: identity.to_pem_bundle(),
        }
        files: dict[str, Path] = {}
        for name, value in credentials.items():
            files[name] = path = self._work / f"{self.name}.{name}"
            path.touch(0o600)
            if self.hardware.credentials == "smbios":
                encoded = base64.b64encode(value)
                path.write_bytes(f"io.systemd.credential.binary:{name}=".encode() + encoded)
            else:
                path.write_bytes(value)
        return [
            *self.hardware.arguments(self.role.value), "-smp", "1", "-m", str(self._memory_mib),
            "-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{self.serial_log}",
            "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
            *self.hardware.credential_arguments(files), *self._nics(),
        ]  # fmt: skip

    def _nics(self) -> list[str]:
        arguments: list[str] = []
        for index in range(4 if self.role is Role.SSVM else 3):
            prefix = NETWORKS[index]
            if index == 0:
                net = f"net={prefix}.0.0/16,host={prefix}.0.1,dns={prefix}.0.3,dhcpstart={prefix}.0.15"
                net += f",hostfwd=tcp:127.0.0.1:{self._ssh_port}-{prefix}.10.2:3922"
                mac = "0e:00:a9:fe:0a:02"
            else:
                net = f"net={prefix}.0/24,host={prefix}.1,dns={prefix}.3,dhcpstart={prefix}.15,restrict=on"
                if prefix == PUBLIC and self._console_port is not None:
                    net += f",hostfwd=tcp:127.0.0.1:{self._console_port}-{prefix}.101:{CONSOLE_PORT}"
                mac = f"02:00:00:00:00:0{index}"
            arguments += ["-netdev", f"user,id=n{index},{net}"]
            arguments += ["-device", f"virtio-net-pci,netdev=n{index},mac={mac},romfile="]
        return arguments

    def ssh_command(self, *command: str) -> list[str]:
        """Return the command line of `ssh` into the guest."""
        settings = [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "BatchMode=yes",
            "ConnectTimeout=20",  # QEMU accepts connections before the guest does
        ]
        options = [argument for setting in settings for argument in ("-o", setting)]
        options += ["-i", str(self._key), "-p", str(self._ssh_port), f"root@{self.address}"]
        return [*self.enter, "ssh", *options, *command]

    def ssh(self, *command: str, timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.ssh_command(*command), capture_output=True, text=True, timeout=timeout_s, check=False
        )
