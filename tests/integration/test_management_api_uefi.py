# SPDX-License-Identifier: Apache-2.0
"""VMs that boot by UEFI through the API of a real daemon, with Debian's firmware in real QEMU processes."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest

from integration.api_lab import api_of, deployment, machine, open_files
from integration.daemon_lab import Host, host, until

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

__all__ = ["host"]  # the fixture

NAME = "installed system"
#: The firmware takes the entry, also when what it names is no program.
BOOTS_IT = re.compile(rf'BdsDxe: [a-z ]+ Boot\w+ "{NAME}"'.encode())
#: What the firmware's shell runs: it installs a boot entry, as an operating system does, and powers off.
INSTALL = f"""\
fs0:
bcfg boot add 0 fs0:\\system.efi "{NAME}"
reset -s
"""


def write_installer(disk: Path, work: Path) -> None:
    """Write a disk whose file system the firmware reads; `system.efi` is no program."""
    raw, script = work / "installer.raw", work / "startup.nsh"
    script.write_bytes(INSTALL.replace("\n", "\r\n").encode())
    (work / "system.efi").write_bytes(b"no program")
    with raw.open("wb") as file:
        file.truncate(4 << 20)
    commands: tuple[list[str | Path], ...] = (
        ["mformat", "-i", raw, "-T", "8192", "-h", "64", "-s", "32", "::"],
        ["mcopy", "-i", raw, script, work / "system.efi", "::"],
        ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, disk],
    )
    for command in commands:
        subprocess.run(command, check=True, timeout=60)


def test_what_a_guest_installs_in_uefi_is_kept_until_its_vm_is_expunged(host: Host, tmp_path: Path) -> None:
    host.start()
    host.both_running()
    client = api_of(host)
    api = client()
    [row] = api.listHosts(type="Routing")["host"]
    assert row["ueficapability"] is True
    values = deployment(host, api)
    [disk] = (host.layout.root / "store").rglob("disk.qcow2")
    write_installer(disk, tmp_path)
    place = {"hostid": row["id"], "clusterid": row["clusterid"], "podid": row["podid"]}
    by_bios = api.deployVirtualMachine(name="one", **place, **values)["virtualmachine"]
    assert (by_bios["state"], by_bios["boottype"]) == ("Running", "Bios")
    assert list(host.layout.uefi_variables.iterdir()) == []
    assert b"pflash" not in Path(f"/proc/{host.pids()[by_bios['instancename']]}/cmdline").read_bytes()

    vm = api.deployVirtualMachine(name="two", boottype="UEFI", bootmode="LEGACY", **values)["virtualmachine"]
    assert (vm["state"], vm["boottype"], vm["bootmode"]) == ("Running", "Uefi", "legacy")
    [variables] = host.layout.uefi_variables.iterdir()
    until(lambda: machine(api, "two")["state"] == "Stopped", "the end of the installation")
    log = host.layout.logs / f"{vm['instancename']}.log"
    assert not BOOTS_IT.search(log.read_bytes())
    installed = variables.read_bytes()
    assert NAME.encode("utf-16-le") in installed

    host.end(signal.SIGKILL)
    host.start()
    api = client()
    assert variables.read_bytes() == installed
    assert api.startVirtualMachine(id=vm["id"], hostid=row["id"])["virtualmachine"]["state"] == "Running"
    assert str(variables) in open_files(host.pids()[vm["instancename"]])
    until(lambda: BOOTS_IT.search(log.read_bytes()), "the boot entry on the serial port")
    api.destroyVirtualMachine(id=vm["id"])
    assert variables.exists()
    api.recoverVirtualMachine(id=vm["id"])
    assert machine(api, "two")["boottype"] == "Uefi"
    api.destroyVirtualMachine(id=vm["id"], expunge=True)
    assert list(host.layout.uefi_variables.iterdir()) == []
