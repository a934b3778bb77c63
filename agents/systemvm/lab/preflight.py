# SPDX-License-Identifier: Apache-2.0
"""Checks what a machine needs before the start, and reports everything that is missing at once.

This file needs only Python's standard library, so that it runs before anything is installed:
`python3 agents/systemvm/lab/preflight.py`.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

MEMORY_BYTES = 3 << 30
DISK_BYTES = 12 << 30
COMMANDS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "ip": "iproute2",
    "nft": "nftables",
    "rpcbind": "rpcbind",
    "ganesha.nfsd": "nfs-ganesha and nfs-ganesha-vfs",
    "nginx": "nginx-light",
    "dnsmasq": "dnsmasq-base",
    "grub-mkimage": "grub-common and grub-pc-bin",
    "sfdisk": "fdisk",
    "mke2fs": "e2fsprogs",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
}
FILES = {
    "/usr/lib/systemd/systemd-socket-proxyd": "systemd",
    "/usr/lib/ipxe/ipxe.iso": "ipxe",
    "/bin/busybox": "busybox-static",
    "/usr/lib/grub/i386-pc/boot.img": "grub-pc-bin",
}
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/bin", "/bin"])


def missing(directory: Path, ports: list[int], *, installed: bool = True) -> list[str]:
    """Return one line for each missing requirement; with `installed` also for missing programs."""
    found = [
        *_privileges(),
        *_memory(),
        *_disk(directory),
        *(line for port in ports for line in _port(port)),
    ]
    return found + _programs() if installed else found


def _privileges() -> list[str]:
    lines = []
    if os.geteuid() != 0:
        lines.append("root: network namespaces and bridges require it; run the command with sudo")
    elif not Path("/dev/net/tun").exists():
        lines.append('/dev/net/tun: VMs require it for their network; run "modprobe tun"')
    return lines


def _memory(meminfo: Path = Path("/proc/meminfo")) -> list[str]:
    values = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    available = int(values["MemAvailable"].split()[0]) * 1024
    if available >= MEMORY_BYTES:
        return []
    return [f"memory: {available >> 20} MiB available, {MEMORY_BYTES >> 20} MiB required; end other programs"]


def _disk(directory: Path) -> list[str]:
    while not directory.exists():
        directory = directory.parent
    free = shutil.disk_usage(directory).free
    if free >= DISK_BYTES:
        return []
    return [f"disk: {free >> 30} GiB free in {directory}, {DISK_BYTES >> 30} GiB required; delete files"]


def _port(port: int) -> list[str]:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return [
                f"port {port} on 127.0.0.1: {error.strerror}; end the program that uses it "
                '(see "ss -ltnp"), or choose another port'
            ]
    return []


def _programs() -> list[str]:
    lines = [
        f"{command}: install Debian's {package}"
        for command, package in COMMANDS.items()
        if shutil.which(command, path=SEARCH) is None
    ]
    return lines + [
        f"{path}: install Debian's {package}" for path, package in FILES.items() if not Path(path).exists()
    ]


def main() -> int:
    """Check, before installation, what no package provides; the arguments are a directory and ports."""
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else "build")
    lines = missing(directory, [int(port) for port in sys.argv[2:]], installed=False)
    for line in lines:
        sys.stderr.write(f"missing  {line}\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
