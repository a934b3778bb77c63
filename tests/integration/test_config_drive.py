# SPDX-License-Identifier: Apache-2.0
"""A guest without a network mounts its config drive by the label, and takes its data and password from it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from integration.qemu_lab import NoTaps, machine, run_directory
from systemvm.host.accelerator import Accelerator
from systemvm.lab import guest_image
from systemvm.management.guest_networks.config_drive import LABEL, ConfigDrive
from systemvm.management.hypervisors.base import Disk
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.hypervisors.qemu import QemuHypervisor
from systemvm.management.primary.qemu_img import QemuImg
from systemvm.service.slowness import scaled_s
from writing_guest import add_program

TOP = Path(__file__).resolve().parents[2]
NAME = "i-2-3-VM"
PASSWORD = "only-in-memory-7F"
#: A guest that says what each CD is, and keeps the one that is named "kept".
CD_READER = """\
#!/bin/sh
mkdir -p /cd
while sleep 1; do
    mount -t iso9660 -o ro /dev/sr0 /cd 2>/dev/null || continue
    name=$(cat /cd/cloudstack/metadata/local-hostname.txt)
    echo "cd $name"
    [ "$name" = kept ] && exit
    umount /cd
done
"""
USER_DATA = b"#!/bin/sh\n\xff\0echo hello\n"

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.image,
    pytest.mark.skipif(
        not (TOP / "build/images/ssvm.vmlinuz").exists(), reason="needs built images: `make images`"
    ),
]

__all__ = ["run_directory"]  # a fixture


@pytest_twisted.async_yield_fixture
async def driver(run_directory: Path) -> AsyncIterator[QemuHypervisor]:
    made = QemuHypervisor(run_directory, NoTaps(), Accelerator.TCG)
    yield made
    await made.stop(NAME, forced=True)
    await made.close()


async def wait_until(what: str, is_so: Callable[[], bool]) -> None:
    deadline = reactor.seconds() + scaled_s(120)
    while not is_so():
        assert reactor.seconds() < deadline, what
        await deferLater(reactor, 0.5, lambda: None)


def files_with(secret: bytes, directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and secret in path.read_bytes()]


def relabelled(image: bytes, label: str) -> bytes:
    """Return an image with another label, in its first descriptor and in that of Joliet."""
    return image.replace(LABEL.encode(), label.encode()).replace(
        LABEL.encode("utf-16-be"), label.encode("utf-16-be")
    )


def user_iso(directory: Path, name: str) -> Path:
    path = directory / f"{name}.iso"
    path.write_bytes(relabelled(ConfigDrive({"local-hostname": name}, []).image(), "a-user-s"))
    return path


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest_twisted.ensureDeferred
async def test_a_guest_without_a_network_reads_its_config_drive(
    driver: QemuHypervisor, run_directory: Path, tmp_path: Path
) -> None:
    tiny = await deferToThread(guest_image.build, TOP / "build")
    clone = tmp_path / "clone.qcow2"
    image = tmp_path / "reader.qcow2"
    await deferToThread(add_program, tiny, tmp_path / "work", image, CD_READER)
    await QemuImg().create_clone(clone, image, "qcow2", None)
    cd, other = user_iso(tmp_path, "not-it"), user_iso(tmp_path, "kept")
    log = tmp_path / "log/serial.log"
    spec = machine(tmp_path, disk=Disk(clone), memory_mib=128, cdrom=cd, serial_log=log)

    items = {"local-hostname": "alone", "vm-id": spec.uuid, "instance-id": spec.uuid}
    drive = ConfigDrive(items, [], USER_DATA, PASSWORD)

    def said(line: str) -> bool:
        return log.exists() and line in log.read_text(errors="replace")

    status = await driver.start(evolve(spec, config_drive=drive.image()))
    assert status.has_config_drive
    password = f"password {digest(PASSWORD.encode())}"
    await wait_until("the guest has its password", lambda: said(password))
    assert said("config drive of alone")
    assert said(f"user data {digest(USER_DATA)}")
    assert files_with(PASSWORD.encode(), tmp_path) == []
    process = Path(f"/proc/{status.pid}")
    command = (process / "cmdline").read_bytes()
    assert spec.name.encode() in command
    assert PASSWORD.encode() not in command + (process / "environ").read_bytes()

    # its other CD is the drive of ISOs, which the guest locks while it has one mounted
    await wait_until("the guest has read its ISO", lambda: said("cd not-it"))
    cds = driver.cd_drive(NAME)
    await cds.insert(other, forced=True)
    await wait_until("the guest has read another ISO", lambda: said("cd kept"))
    with pytest.raises(HypervisorError, match="uses the medium in its CD drive") as refused:
        await cds.eject()
    assert refused.value.hint == "unmount it in the guest and repeat this, or use forced=true"
    await cds.eject(forced=True)
    await cds.insert(cd)
