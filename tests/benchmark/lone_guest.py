# SPDX-License-Identifier: Apache-2.0
"""One appliance on QEMU's own user networks: it boots, dials a daemon on loopback, and can be logged in to.

The host's end of each network is QEMU itself, so nothing of the machine's own is touched. Run it inside a
network namespace: the daemon's port on loopback is CloudStack's fixed 8250.
"""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

from systemvm.management.pki.control import ControlAuthority
from systemvm.wire import boot
from systemvm.wire.role import CONTROL_PORT, Role

TOP = Path(__file__).resolve().parents[2]
IMAGES = TOP / "build/images"
NAMES = {Role.SSVM: "s-1-VM", Role.CPVM: "v-2-VM"}
NETWORKS = ("169.254", "10.11.0", "203.0.113", "10.12.0")


def accelerator() -> list[str]:
    """As the images were built: what the probe found."""
    if (TOP / "build/accelerator").read_text().strip() == "kvm":
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg,tb-size=128", "-cpu", "max"]


class LoneGuest:
    """A guest of a built image; its disk is thrown away at the end."""

    def __init__(
        self, role: Role, work: Path, authority: ControlAuthority, ssh_port: int, memory_mib: int
    ) -> None:
        self.role = role
        self.name = NAMES[role]
        self.serial_log = work / f"{self.name}.serial.log"
        self._work = work
        self._authority = authority
        self._ssh_port = ssh_port
        self._memory_mib = memory_mib
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
        return boot.format(arguments)

    def command(self) -> list[str]:
        """QEMU's command line; the credentials lie in files that only it is told of."""
        manifest = json.loads((IMAGES / f"{self.role.value}.manifest.json").read_text())
        identity = self._authority.bootstrap(self.name, self.role)
        bundle = base64.b64encode(identity.to_pem_bundle()).decode()
        credentials = {
            "cmdline": f"io.systemd.credential:{boot.CMDLINE_CREDENTIAL}={self.boot_arguments()}",
            "identity": f"io.systemd.credential.binary:{boot.IDENTITY_CREDENTIAL}={bundle}",
        }
        smbios: list[str] = []
        for kind, text in credentials.items():
            path = self._work / f"{self.name}.{kind}"
            path.write_text(text)
            smbios += ["-smbios", f"type=11,path={path}"]
        return [
            "qemu-system-x86_64", *accelerator(), "-smp", "1", "-m", str(self._memory_mib), "-machine", "q35",
            "-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{self.serial_log}",
            "-kernel", str(IMAGES / manifest["kernel"]), "-initrd", str(IMAGES / manifest["initrd"]),
            "-append", manifest["append"],
            "-drive", f"file={IMAGES / manifest['disk']},if=virtio,snapshot=on,file.locking=off",
            "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
            *smbios, *self._nics(),
        ]  # fmt: skip

    def _nics(self) -> list[str]:
        words: list[str] = []
        for index in range(4 if self.role is Role.SSVM else 3):
            prefix = NETWORKS[index]
            if index == 0:
                net = f"net={prefix}.0.0/16,host={prefix}.0.1,dns={prefix}.0.3,dhcpstart={prefix}.0.15"
                net += f",hostfwd=tcp:127.0.0.1:{self._ssh_port}-{prefix}.10.2:3922"
                mac = "0e:00:a9:fe:0a:02"
            else:
                net = f"net={prefix}.0/24,host={prefix}.1,dns={prefix}.3,dhcpstart={prefix}.15,restrict=on"
                mac = f"02:00:00:00:00:0{index}"
            words += ["-netdev", f"user,id=n{index},{net}"]
            words += ["-device", f"virtio-net-pci,netdev=n{index},mac={mac},romfile="]
        return words

    def ssh(self, *command: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        options = [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "BatchMode=yes",
        ]
        words = [word for option in options for word in ("-o", option)]
        return subprocess.run(
            ["ssh", *words, "-i", str(self._key), "-p", str(self._ssh_port), "root@127.0.0.1", *command],
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
