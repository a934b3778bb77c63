# SPDX-License-Identifier: Apache-2.0
"""The system that boot times are compared with: a minimal Debian 13 with its kernel, initrd, units and sshd.

Nothing is masked or tuned. It gets only what any image needs: a label of the root file system, DHCP by
systemd-networkd, and the host keys that the installation of openssh-server makes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "packer"))

import mirror  # noqa: E402
from stamps import Stamp, digest  # noqa: E402

HOME = TOP / "build/bench/stock"
DISK, KERNEL, INITRD = HOME / "disk.raw", HOME / "vmlinuz", HOME / "initrd"
DISK_BYTES = 2 << 30
PACKAGES = "linux-image-cloud-amd64,systemd-sysv,udev,dbus,libpam-systemd,openssh-server"
APPEND = "root=LABEL=root rw console=ttyS0 net.ifnames=0 quiet"
NETWORK = "[Match]\nName=eth0\n[Network]\nDHCP=yes\n"


def build() -> None:
    """Make the image once, in about 90 s."""
    stamp = Stamp(HOME / "stamp.json", [DISK, KERNEL, INITRD])
    inputs = digest(Path(__file__))
    if stamp.holds(inputs):
        return
    print("bench: making the stock Debian 13 for comparison (about 90 s)", flush=True)
    HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME) as name:
        root = Path(name) / "root"
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "trixie", str(root), "-"],
            input="\n".join(mirror.source_lines("trixie")) + "\n", text=True, check=True,
        )  # fmt: skip
        (root / "etc/systemd/network/10-eth0.network").write_text(NETWORK)
        subprocess.run(["systemctl", f"--root={root}", "--quiet", "enable", "systemd-networkd"], check=True)
        shutil.copy(next((root / "boot").glob("vmlinuz-*")), KERNEL)
        shutil.copy(next((root / "boot").glob("initrd.img-*")), INITRD)
        DISK.unlink(missing_ok=True)
        with DISK.open("wb") as disk:
            disk.truncate(DISK_BYTES)
        subprocess.run(
            ["mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-d", str(root), str(DISK)], check=True
        )
    stamp.set(inputs)


def command(accelerator: list[str], ssh_port: int, memory_mib: int, serial_log: Path) -> list[str]:
    return [
        "qemu-system-x86_64", *accelerator, "-smp", "1", "-m", str(memory_mib), "-machine", "q35",
        "-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{serial_log}",
        "-kernel", str(KERNEL), "-initrd", str(INITRD), "-append", APPEND,
        "-drive", f"file={DISK},format=raw,if=virtio,snapshot=on,file.locking=off",
        "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
        "-netdev", f"user,id=n0,hostfwd=tcp:127.0.0.1:{ssh_port}-:22",
        "-device", "virtio-net-pci,netdev=n0,romfile=",
    ]  # fmt: skip
