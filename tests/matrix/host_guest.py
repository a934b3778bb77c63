# SPDX-License-Identifier: Apache-2.0
"""A Debian of this host's own release with the project installed, booted once under QEMU.

Its systemd runs the units of systemd/host/. A program in the guest collects observations, writes them to the
second serial port as JSON, and powers the guest off.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "packer"))

import mirror  # noqa: E402
from stamps import Stamp, digest  # noqa: E402

HOME = TOP / "build/matrix/host"
TAR, KERNEL, INITRD = HOME / "root.tar", HOME / "vmlinuz", HOME / "initrd"
DISK_BYTES = 3 << 30
PACKAGES = (
    "linux-image-cloud-amd64,systemd-sysv,udev,dbus,python3,nftables,iproute2,qemu-system-x86,"
    "qemu-utils,procps,util-linux,nfs-common,nfs-kernel-server"
)
UNITS = (
    "systemvm-managementd.socket",
    "systemvm-nethelper.socket",
    "systemvm-launcher.socket",
    "systemvm-guestnet.socket",
    "systemvm-mounthelper.socket",
    "systemvm-managementd.service",
)
BOOT_TIMEOUT_S = 3600.0  # it takes three minutes on an idle machine, and half an hour on one that is not
#: The project's directory in the guest.
PREFIX = Path("usr/lib/systemvm")
_APPEND = (
    "root=LABEL=root rw console=ttyS0 systemd.default_device_timeout_sec=240 "
    # QEMU in the guest must not use an emulated KVM
    "modprobe.blacklist=kvm_amd,kvm_intel systemd.journald.forward_to_console=1"
)
_OBSERVE_UNIT = """\
[Unit]
Description=Collect observations
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/usr/bin/python3 /usr/lib/systemvm/observe.py
ExecStopPost=/usr/bin/systemctl poweroff --no-block
StandardError=tty
TTYPath=/dev/ttyS0
[Install]
WantedBy=multi-user.target
"""


def build_base() -> None:
    """Build the Debian without the project, once."""
    stamp = Stamp(HOME / "stamp.json", [TAR, KERNEL, INITRD])
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    exclude = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")]
    inputs = digest(release, PACKAGES, *exclude)
    if stamp.holds(inputs):
        return
    HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME) as name:
        root = Path(name) / "root"
        subprocess.run(
            [
                "mmdebstrap",
                "--quiet",
                "--variant=minbase",
                f"--include={PACKAGES}",
                *exclude,
                release,
                root,
                "-",
            ],
            input="\n".join(mirror.source_lines(release)) + "\n",
            text=True,
            check=True,
            timeout=900,
        )
        shutil.copy(next((root / "boot").glob("vmlinuz-*")), KERNEL)
        shutil.copy(next((root / "boot").glob("initrd.img-*")), INITRD)
        subprocess.run(["tar", "-C", root, "-cf", TAR, "."], check=True, timeout=300)
    stamp.set(inputs)


def install(root: Path, images: Path, observer: str, zone: str) -> None:
    """Install the project with its users, units and one zone, as on a host."""
    prefix = root / PREFIX
    environment = os.environ | {"DESTDIR": str(root), "IMAGES": str(images), "PYTHON": sys.executable}
    subprocess.run([TOP / "systemd/host/install.sh"], env=environment, check=True, timeout=600)
    zones = root / "etc/systemvm/zones"
    zones.mkdir(parents=True)
    (zones / "zone1.yaml").write_text(zone)
    (prefix / "observe.py").write_text(observer)
    for name in ("tests/vlan_probe.py", "systemd/host/install.sh"):
        shutil.copy(TOP / name, prefix)
    (root / "usr/lib/systemd/system/observe.service").write_text(_OBSERVE_UNIT)
    subprocess.run(
        ["systemctl", f"--root={root}", "--quiet", "enable", *UNITS, "observe.service"],
        check=True,
        timeout=60,
    )


def boot(work: Path, observer: str, zone: str, images: Path) -> dict[str, Any]:
    """Return the observations of `observer` on a host with these images."""
    build_base()
    root = work / "root"
    root.mkdir()
    subprocess.run(["tar", "-C", root, "-xf", TAR], check=True, timeout=300)
    install(root, images, observer, zone)
    disk = work / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-d", root, disk], check=True, timeout=300
    )
    shutil.rmtree(root)
    # both are kept, to examine a failure
    observations, console = HOME / "observations.json", HOME / "console.log"
    observations.unlink(missing_ok=True)
    console.unlink(missing_ok=True)
    subprocess.run(
        [
            # without AVX, which QEMU 7.2 emulates incorrectly: calls in the guest failed at random
            *("qemu-system-x86_64", "-accel", "tcg,tb-size=256", "-cpu", "Nehalem", "-smp", "2"),
            *("-m", "1500M", "-machine", "q35", "-nodefaults", "-display", "none", "-no-reboot"),
            *("-nic", "none", "-serial", f"file:{console}", "-serial", f"file:{observations}"),
            *("-kernel", str(KERNEL), "-initrd", str(INITRD)),
            *("-append", _APPEND),
            *("-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"),
            *("-object", "rng-builtin,id=rng", "-device", "virtio-rng-pci,rng=rng"),
        ],
        check=True,
        timeout=BOOT_TIMEOUT_S,
    )
    try:
        found: dict[str, Any] = json.loads(observations.read_text())
    except ValueError as error:
        raise AssertionError(f"the guest wrote no observations\n{console.read_text()[-4000:]}") from error
    return found
