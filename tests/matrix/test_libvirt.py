# SPDX-License-Identifier: Apache-2.0
"""The documented libvirt domain on a real libvirtd: it is defined, boots by UEFI and answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmark.single_guest import IMAGES, TOP, Hardware, SingleGuest, accelerator
from matrix.plain_guest import BOOT_TIMEOUT_S
from systemvm.management.pki.control import ControlAuthority
from systemvm.wire import boot_arguments
from systemvm.wire.role import Role

pytestmark = [
    pytest.mark.image,
    pytest.mark.netns,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("libvirtd") is None, reason="needs Debian's libvirt-daemon"),
]

TEMPLATE = TOP / "packer/libvirt-domain.xml"
# Its own namespaces, and its own state on file systems in memory: the host's libvirt is not touched.
PREPARE = """
set -eu
ip link set lo up
mount -t sysfs sysfs /sys  # of this namespace's interfaces
for directory in /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt /run/libvirt; do
    mkdir -p "$directory"
    mount -t tmpfs tmpfs "$directory"
done
# the user that Debian's libvirt-daemon-system would make
for list in passwd group; do
    cp /etc/$list /etc/libvirt/$list
done
echo 'libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin' >> /etc/libvirt/passwd
echo 'libvirt-qemu:x:64055:' >> /etc/libvirt/group
mount --bind /etc/libvirt/passwd /etc/passwd
mount --bind /etc/libvirt/group /etc/group
for bridge in cloud0 cloudbr0 cloudbr1; do
    ip link add "$bridge" type bridge
    ip link set "$bridge" up
done
ip address add 169.254.0.1/16 dev cloud0
cat > /etc/libvirt/qemu.conf <<CONF
user = "root"
group = "root"
security_driver = "none"
stdio_handler = "file"
namespaces = []
cgroup_controllers = []
remember_owner = 0
CONF
exec libvirtd
"""


class Libvirt:
    """A libvirtd in its own namespaces."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.enter = ["nsenter", "--net", "--mount", "--target", str(process.pid)]

    def virsh(self, *arguments: str, check: bool = True) -> str:
        command = [*self.enter, "virsh", "--connect", "qemu:///system", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert not check or done.returncode == 0, f"virsh {arguments}: {done.stderr}"
        return done.stdout if done.returncode == 0 else ""

    def state(self, name: str) -> str:
        return self.virsh("domstate", name, check=False).strip()


@contextmanager
def running_libvirt(log: Path) -> Iterator[Libvirt]:
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", PREPARE],
            stdout=stream, stderr=subprocess.STDOUT,
        )  # fmt: skip
    libvirt = Libvirt(process)
    try:
        _wait("libvirtd", lambda: bool(libvirt.virsh("version", check=False)) or _ended(process), log)
        assert process.poll() is None, log.read_text(errors="replace")
        yield libvirt
    finally:
        for name in libvirt.virsh("list", "--name", check=False).split():
            libvirt.virsh("destroy", name, check=False)
        process.terminate()
        process.wait(30)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


def _wait(what: str, holds: object, log: Path, timeout_s: float = BOOT_TIMEOUT_S) -> None:
    assert callable(holds)
    deadline = time.monotonic() + timeout_s
    while not holds():
        output = log.read_text(errors="replace")[-2000:] if log.exists() else ""
        assert time.monotonic() < deadline, f"no {what} after {timeout_s} s: {output}"
        time.sleep(0.5)  # daemon and guest are polled from outside: neither reports that it is ready


def _domain_xml(values: dict[str, str]) -> str:
    text = TEMPLATE.read_text()
    for key, value in values.items():
        assert f"@{key}@" in text
        text = text.replace(f"@{key}@", value)
    return text


def _guest_exec(libvirt: Libvirt, name: str, *command: str) -> dict[str, object]:
    request = {"execute": "guest-exec", "arguments": {"path": command[0], "arg": list(command[1:])}}
    reply = json.loads(libvirt.virsh("qemu-agent-command", name, json.dumps(request)))
    status = {"execute": "guest-exec-status", "arguments": {"pid": reply["return"]["pid"]}}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done = json.loads(libvirt.virsh("qemu-agent-command", name, json.dumps(status)))["return"]
        if done["exited"]:
            return dict(done)
        time.sleep(0.2)  # the agent offers no way to wait for a program
    raise AssertionError(f"{command} did not end within 60 s")


def test_the_documented_domain_boots(tmp_path: Path) -> None:
    """Credentials by fw_cfg files, ssh and the guest agent work; a reboot from inside ends the domain."""
    os.chmod(tmp_path, 0o755)  # noqa: PTH101 - readable for QEMU's own user
    disk = tmp_path / "disk.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", IMAGES / "cpvm.qcow2", disk],
        check=True,
    )
    authority = ControlAuthority.open(tmp_path)
    guest = SingleGuest(Role.CPVM, tmp_path, authority, 3922, 256, Hardware(credentials="fw_cfg"))
    credentials = tmp_path / "credentials"
    credentials.mkdir(0o700)
    (credentials / "cmdline").write_text(guest.boot_arguments())
    (credentials / "identity").write_bytes(authority.bootstrap(guest.name, Role.CPVM).to_pem_bundle())
    domain_type = "kvm" if "kvm" in accelerator() else "qemu"
    values = {
        "TYPE": domain_type, "NAME": guest.name, "DISK": str(disk), "CREDENTIALS": str(credentials),
        "LOG": str(guest.serial_log),
    }  # fmt: skip
    (tmp_path / "domain.xml").write_text(_domain_xml(values))
    log = tmp_path / "libvirtd.log"
    with running_libvirt(log) as libvirt:
        libvirt.virsh("define", "--validate", str(tmp_path / "domain.xml"))
        libvirt.virsh("start", guest.name)
        argv = _argv(guest.name)
        guest.enter = libvirt.enter
        guest.address = "169.254.10.2"
        _wait("ssh on port 3922", lambda: guest.ssh("true").returncode == 0, guest.serial_log)
        about = guest.ssh("hostname; test -d /sys/firmware/efi && echo uefi; systemd-detect-virt").stdout
        assert about.split()[:2] == [guest.name, "uefi"]
        # sshd, activated by its socket, answers earlier than the guest agent
        ping = ("qemu-agent-command", guest.name, '{"execute": "guest-ping"}')
        _wait("guest agent", lambda: bool(libvirt.virsh(*ping, check=False)), guest.serial_log)
        assert (
            _guest_exec(libvirt, guest.name, "systemctl", "is-active", "-q", "systemvm-preinit")["exitcode"]
            == 0
        )

        # argv, which every user of the host can read, contains nothing of the files
        identity = (credentials / "identity").read_text()
        for secret in (identity.splitlines()[1], guest.boot_arguments().split()[0], guest.boot_arguments()):
            assert secret not in argv
        assert f"name=opt/io.systemd.credentials/{boot_arguments.CMDLINE_CREDENTIAL}" in argv

        guest.ssh("systemctl --no-block reboot")
        _wait("end of the domain", lambda: libvirt.state(guest.name) == "shut off", guest.serial_log)


def _argv(name: str) -> str:
    """Return the command line of the QEMU process with this name."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if f"guest={name}" in command and sys.executable not in command:
            return command
    raise AssertionError(f"no QEMU of {name}")
