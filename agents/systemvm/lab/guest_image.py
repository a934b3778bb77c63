# SPDX-License-Identifier: Apache-2.0
"""Builds a small VM image to register and deploy: Debian's kernel and busybox, booted by BIOS and GRUB.

Its screen is blue until someone types `screen green`, which shows that display and keyboard work. A disk with
a second partition, an ext4 file system that has a program `start`, runs that program beside everything else.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import shutil
import tarfile
import tempfile
from pathlib import Path

from systemvm.lab.commands import run
from systemvm.lab.errors import LabError
from systemvm.lab.initramfs import Entry, archive

GRUB_MODULES = ("biosdisk", "part_msdos", "ext2", "normal", "linux", "echo")
#: In the order of loading: the network card, the power button, the disk, the CD and its file system.
KERNEL_MODULES = (
    *("failover", "net_failover", "virtio_net", "evdev", "button", "virtio_blk"),
    *("scsi_common", "scsi_mod", "libata", "libahci", "ahci", "cdrom", "sr_mod", "isofs"),
)
BUSYBOX = Path("/bin/busybox")
GRUB = Path("/usr/lib/grub/i386-pc")

_SECTOR_BYTES = 512
_PARTITION_START = 2048
_SIZE_BYTES = 48 << 20

#: File system tools are in sbin, which is not in every user's PATH.
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}

_INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts && mount -t devpts devpts /dev/pts
hostname tiny
for module in /lib/modules/*.ko; do insmod "$module" 2>/dev/null; done
if [ -e /sys/class/net/eth0 ]; then
    ip link set eth0 up
    udhcpc -i eth0 -f -s /etc/udhcpc.script -O staticroutes > /dev/null 2>&1 &
fi
/bin/config-drive &
echo "systemvm-lab: tiny guest is up" > /dev/ttyS0 2>/dev/null
mount -t ext4 /dev/vda2 /data 2>/dev/null && [ -x /data/start ] && /data/start > /dev/ttyS0 2>&1 &
exec init
"""

_LEASED = """\
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev "$interface"
set -- $staticroutes
while [ $# -ge 2 ]; do ip route add "$1" via "$2"; shift 2; done
[ -n "$staticroutes" ] || ip route add default via "$router"
for server in $dns; do echo "nameserver $server"; done > /etc/resolv.conf
/bin/metadata "$serverid" &
"""

#: The serial log has digests of what the cloud gives this machine.
_REPORT = """\
#!/bin/sh
say() { echo "systemvm-lab: $*" > /dev/ttyS0; }
digest() { sha256sum | cut -d' ' -f1; }
set_password() { printf '%s\\n%s\\n' "$1" "$1" | passwd root > /dev/null 2>&1; }
say_password() { say "password $(printf %s "$1" | digest)"; }
"""

_METADATA = """\
# What the cloud answers this machine: user data, and a password for root.
say "address $(ip -4 -o addr show eth0 | awk '{print $4}')"
if wget -q -O /tmp/user-data http://169.254.169.254/latest/user-data; then
    say "user data $(digest < /tmp/user-data)"
fi
ask() { wget -q -O - --header "DomU_Request: $1" "http://$2:8080/"; }
password=$(ask send_my_password "$1")
case "$password" in
"" | bad_request) say "no password server" ;;
saved_password) say "no password waits" ;;
*)
    set_password "$password"
    ask saved_password "$1" > /dev/null
    say_password "$password" ;;
esac
"""

_CONFIG_DRIVE = """\
# The same on a CD, of a machine that cannot ask for it; the kernel finds CDs after a moment.
for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    drive=$(findfs LABEL=config-2 2>/dev/null) && break
    sleep 1
done
mkdir /config && mount -t iso9660 -o ro "$drive" /config 2>/dev/null || exit 0
cd /config/cloudstack
hostname "$(cat metadata/local-hostname.txt)"
say "config drive of $(hostname)"
[ -e userdata/user_data.txt ] && say "user data $(digest < userdata/user_data.txt)"
if [ -e password/vm_password.txt ]; then
    password=$(cat password/vm_password.txt)
    set_password "$password"
    say_password "$password"
else
    say "no password on the config drive"
fi
"""

_INITTAB = """\
::respawn:/bin/acpid -f -c /etc/acpi -l /dev/null
tty1::respawn:/bin/cttyhack /bin/console
ttyS0::respawn:/bin/cttyhack /bin/sh -l
::ctrlaltdel:/bin/reboot
::shutdown:/bin/sync
"""

_CONSOLE = """\
#!/bin/sh
export PS1='tiny # ' HOME=/ TERM=linux
screen blue
cat /etc/motd
exec /bin/sh -l
"""

_SCREEN = """\
#!/bin/sh
case "$1" in
black) code=40 ;; red) code=41 ;; green) code=42 ;; blue) code=44 ;; *)
    echo "usage: screen black|red|green|blue" >&2; exit 2 ;;
esac
printf '\\033[0;1;37;%sm\\033[2J\\033[H' "$code"
"""

_MOTD = r"""
                 _                                        _   _
   ___ _   _ ___| |_ ___ _ __ _____   ___ __ ___         | |_(_)_ __  _   _
  / __| | | / __| __/ _ \ '_ ` _ \ \ / / '_ ` _ \   ___  | __| | '_ \| | | |
  \__ \ |_| \__ \ ||  __/ | | | | \ V /| | | | | | |___| | |_| | | | | |_| |
  |___/\__, |___/\__\___|_| |_| |_|\_/ |_| |_| |_|        \__|_|_| |_|\__, |
       |___/                                                          |___/

  A small virtual machine with Debian's kernel and busybox.
  You see its VGA screen through QEMU's VNC, the CPVM and your browser.

  Type here. Try:  screen green     uname -a     free     poweroff

"""


def build(build_directory: Path) -> Path:
    """Return `build/lab/tiny.qcow2`, which is built again when one of its inputs has changed.

    Raises: LabError when an input is missing or a tool fails.
    """
    kernel = build_directory / "images" / "ssvm.vmlinuz"
    root_tar = build_directory / "base" / "ssvm.tar"
    for needed in (kernel, BUSYBOX, GRUB / "boot.img"):
        if not needed.exists():
            raise LabError(f"{needed} is missing", 'run "make images"')
    output = build_directory / "lab" / "tiny.qcow2"
    stamp = output.with_suffix(".stamp.json")
    inputs = {str(p.name): _sha256(p) for p in (kernel, BUSYBOX, GRUB / "kernel.img", Path(__file__))}
    if output.exists() and stamp.exists() and json.loads(stamp.read_text()) == inputs:
        return output
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".tiny-") as work:
        _build(Path(work), kernel, _kernel_modules(root_tar, kernel), output)
    stamp.write_text(json.dumps(inputs))
    return output


def _build(work: Path, kernel: Path, modules: dict[str, bytes], output: Path) -> None:
    tree = work / "tree" / "boot" / "grub"
    tree.mkdir(parents=True)
    shutil.copy(kernel, tree.parent / "vmlinuz")
    (tree.parent / "initrd").write_bytes(archive(_entries(modules)))
    (work / "early.cfg").write_text(
        "set root=(hd0,msdos1)\n"
        "linux /boot/vmlinuz console=ttyS0 console=tty0 quiet loglevel=3 net.ifnames=0 panic=5\n"
        "initrd /boot/initrd\n"
        "boot\n"
    )
    core_image = work / "core.img"
    _run("grub-mkimage", "-O", "i386-pc", "-p", "/boot/grub", "-c", work / "early.cfg", "-o", core_image,
         *GRUB_MODULES)  # fmt: skip
    disk = work / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(_SIZE_BYTES)
    _run("sfdisk", "-q", disk, stdin=f"{_PARTITION_START},,L,*\n")
    partition_kib = (_SIZE_BYTES - _PARTITION_START * _SECTOR_BYTES) // 1024
    _run("mke2fs", "-q", "-F", "-t", "ext2", "-L", "tiny", "-m", "0", "-d", work / "tree",
         "-E", f"offset={_PARTITION_START * _SECTOR_BYTES}", disk, f"{partition_kib}k")  # fmt: skip
    with disk.open("r+b") as file:
        # GRUB's first sector around the partition table, its core image in the gap after it
        core = core_image.read_bytes()
        if len(core) > (_PARTITION_START - 1) * _SECTOR_BYTES:
            raise LabError(f"GRUB's core image is too large: {len(core)} bytes before the first partition")
        file.write((GRUB / "boot.img").read_bytes()[:440])
        file.seek(_SECTOR_BYTES)
        file.write(core)
    _run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", disk, work / "tiny.qcow2")
    (work / "tiny.qcow2").replace(output)


def _entries(modules: dict[str, bytes]) -> list[Entry]:
    directories = (
        "bin",
        "data",
        "dev",
        "etc",
        "etc/acpi",
        "etc/acpi/PWRF",
        "lib",
        "lib/modules",
        "proc",
        "sys",
        "tmp",
    )
    power_off = b"#!/bin/sh\nexec /bin/poweroff\n"
    return [
        *(Entry.directory(name) for name in directories),
        Entry.character_device("dev/console", 5, 1),
        Entry.character_device("dev/tty1", 4, 1),
        Entry.file("bin/busybox", BUSYBOX.read_bytes(), 0o755),
        Entry.link("bin/sh", "busybox"),
        Entry.file("init", _INIT.encode(), 0o755),
        Entry.file("etc/inittab", _INITTAB.encode()),
        Entry.file("etc/motd", _MOTD.encode()),
        Entry.file("etc/passwd", b"root:x:0:0:root:/:/bin/sh\n"),
        Entry.file("etc/shadow", b"root:*:0:0:99999:7:::\n", 0o600),
        Entry.file("etc/udhcpc.script", _LEASED.encode(), 0o755),
        Entry.file("bin/config-drive", (_REPORT + _CONFIG_DRIVE).encode(), 0o755),
        Entry.file("bin/metadata", (_REPORT + _METADATA).encode(), 0o755),
        Entry.file("etc/profile", b"export PS1='tiny # ' PATH=/bin HOME=/\n"),
        Entry.file("etc/acpi/PWRF/00000080", power_off, 0o755),
        Entry.file("bin/console", _CONSOLE.encode(), 0o755),
        Entry.file("bin/screen", _SCREEN.encode(), 0o755),
        # numbered in the order in which they must be loaded
        *(
            Entry.file(f"lib/modules/{number:02}-{name}.ko", modules[name])
            for number, name in enumerate(KERNEL_MODULES)
            if name in modules
        ),
    ]


def _kernel_modules(root_tar: Path, kernel: Path) -> dict[str, bytes]:
    """Return the modules from the root file system of the kernel; empty when it does not exist."""
    found: dict[str, bytes] = {}
    if not root_tar.exists():
        return found
    wanted = {f"{name}.ko.xz": name for name in KERNEL_MODULES}
    with tarfile.open(root_tar) as tar:
        for member in tar:
            name = wanted.get(Path(member.name).name)
            if name is not None and (file := tar.extractfile(member)) is not None:
                found[name] = lzma.decompress(file.read())
    release = _release(kernel)
    return {name: data for name, data in found.items() if release in data}


def _release(kernel: Path) -> bytes:
    """Return the kernel's version, at the offset given by the x86 boot protocol."""
    image = kernel.read_bytes()
    offset = int.from_bytes(image[0x20E:0x210], "little") + 0x200
    return image[offset : offset + 128].split(b" ", 1)[0]


def _run(*command: str | Path, stdin: str | None = None) -> None:
    run(*command, stdin=stdin, timeout_s=120.0, environment=_ENVIRONMENT)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
