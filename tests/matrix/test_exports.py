# SPDX-License-Identifier: Apache-2.0
"""The files of `make exports`: the same disk for XenServer and VMware."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from benchmark.single_guest import IMAGES, TOP, accelerator
from matrix.plain_guest import NO_BOOT_ARGUMENTS, started
from systemvm.host.architecture import Architecture

pytestmark = [pytest.mark.image, pytest.mark.netns, pytest.mark.timeout(900)]

NAMESPACES = {
    "ovf": "http://schemas.dmtf.org/ovf/envelope/1",
    "rasd": "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData",
}
NICS = {"ssvm": 4, "cpvm": 3}


@pytest.fixture(scope="module", params=["ssvm", "cpvm"])
def role(request: pytest.FixtureRequest) -> str:
    """Make the exports of each image if they are missing or out of date, and return its role."""
    subprocess.run(
        [sys.executable, TOP / "packer/build.py", "exports", request.param], check=True, capture_output=True
    )
    return str(request.param)


@pytest.fixture
def unpacked(role: str, tmp_path: Path) -> Path:
    with tarfile.open(IMAGES / f"{role}.ova") as archive:
        assert archive.getnames() == [f"{role}.ovf", f"{role}.mf", f"{role}.vmdk"]
        archive.extractall(tmp_path)
    return tmp_path


def _same_disk(one: Path, form: str, image: Path) -> None:
    done = subprocess.run(
        ["qemu-img", "compare", "-f", form, "-F", "qcow2", one, image],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_vhd_contains_the_images_disk(role: str) -> None:
    vhd = IMAGES / f"{role}.vhd"
    assert vhd.read_bytes()[:8] == b"conectix"
    _same_disk(vhd, "vpc", IMAGES / f"{role}.qcow2")


def test_ova_is_complete_and_contains_the_images_disk(role: str, unpacked: Path) -> None:
    checksums = dict(line.rstrip().split("= ") for line in (unpacked / f"{role}.mf").open())
    assert len(checksums) == 2
    for kind in ("ovf", "vmdk"):
        found = hashlib.sha256((unpacked / f"{role}.{kind}").read_bytes()).hexdigest()
        assert checksums[f"SHA256({role}.{kind})"] == found
    _same_disk(unpacked / f"{role}.vmdk", "vmdk", IMAGES / f"{role}.qcow2")


def test_every_reference_of_the_descriptor_exists(role: str, unpacked: Path) -> None:
    """Also, each device has its own id."""
    envelope = Xml.parse(unpacked / f"{role}.ovf").getroot()
    ovf = "{" + NAMESPACES["ovf"] + "}"
    assert envelope.tag == f"{ovf}Envelope"
    sections = ["References", "DiskSection", "NetworkSection", "VirtualSystem"]
    assert [child.tag for child in envelope] == [ovf + name for name in sections]
    (file,) = envelope.findall("ovf:References/ovf:File", NAMESPACES)
    vmdk = unpacked / file.attrib[f"{ovf}href"]
    assert int(file.attrib[f"{ovf}size"]) == vmdk.stat().st_size
    (disk,) = envelope.findall("ovf:DiskSection/ovf:Disk", NAMESPACES)
    assert disk.attrib[f"{ovf}fileRef"] == file.attrib[f"{ovf}id"]
    assert disk.attrib[f"{ovf}format"].endswith("#streamOptimized")
    assert int(disk.attrib[f"{ovf}capacity"]) == 2 << 30

    items = envelope.findall("ovf:VirtualSystem/ovf:VirtualHardwareSection/ovf:Item", NAMESPACES)
    devices = [{field.tag.partition("}")[2]: field.text for field in item} for item in items]
    for fields in devices:
        assert list(fields) == sorted(fields)
        assert {"ElementName", "InstanceID", "ResourceType"} <= set(fields)
    by_number = {fields["InstanceID"]: fields for fields in devices}
    assert len(by_number) == len(devices)
    (drive,) = [fields for fields in devices if fields["ResourceType"] == "17"]
    assert drive["HostResource"] == f"ovf:/disk/{disk.attrib[f'{ovf}diskId']}"
    assert by_number[drive["Parent"]]["ResourceType"] == "20"
    networks = {
        network.attrib[f"{ovf}name"]
        for network in envelope.findall("ovf:NetworkSection/ovf:Network", NAMESPACES)
    }
    cards = [fields["Connection"] for fields in devices if fields["ResourceType"] == "10"]
    assert len(cards) == NICS[role]
    assert set(cards) == networks
    assert cards[:3] == ["control", "management", "public"]


def test_checksums_include_the_exports(role: str) -> None:
    checksums = (IMAGES / "SHA256SUMS").read_text()
    for kind in ("vhd", "ova"):
        assert f"  {role}.{kind}\n" in checksums
    subprocess.run(["sha256sum", "--quiet", "--check", "SHA256SUMS"], cwd=IMAGES, check=True)


@pytest.mark.parametrize(
    ("role", "form", "hardware"),
    [
        ("ssvm", "vhd", ["-machine", "pc", "-drive", "if=ide,format=vpc,snapshot=on,file="]),
        ("cpvm", "vmdk", ["-machine", "q35", "-bios", str(Architecture.AMD64.uefi), "-device", "vmxnet3",
                          "-drive", "if=ide,format=vmdk,snapshot=on,file="]),
    ],
    ids=["vhd-pc-bios", "vmdk-q35-uefi"],
    indirect=["role"],
)  # fmt: skip
def test_an_exported_disk_boots(role: str, form: str, hardware: list[str], tmp_path: Path) -> None:
    """On the controllers that its descriptor or XenServer's emulation offer: PIIX IDE, and AHCI."""
    disk = IMAGES / f"{role}.{form}"
    if form == "vmdk":
        with tarfile.open(IMAGES / f"{role}.ova") as archive:
            archive.extract(f"{role}.vmdk", tmp_path)
        disk = tmp_path / f"{role}.vmdk"
    serial_log = tmp_path / "serial.log"
    command = [
        "qemu-system-x86_64", *accelerator(), *hardware[:-1], hardware[-1] + str(disk), "-m", "256",
        "-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{serial_log}",
    ]  # fmt: skip
    with started(command, serial_log) as machine:
        machine.wait("reason on the console", lambda: NO_BOOT_ARGUMENTS in machine.console)
