# SPDX-License-Identifier: Apache-2.0
"""Config drives as other programs read them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from systemvm.management.guest_networks.config_drive import ConfigDrive, DriveNic

ITEMS = {
    "service-offering": "small",
    "availability-zone": "zone 1",
    "local-hostname": "one",
    "public-hostname": "one.cloud.internal",
    "instance-id": "8a3f1c52-3e0f-4b5e-9c1d-000000000001",
    "vm-id": "8a3f1c52-3e0f-4b5e-9c1d-000000000001",
}
NIC = DriveNic(0, "02:00:00:00:00:01", "0c9d3a40-0000-4000-8000-000000000001")
USER_DATA = bytes(range(256)) * 96  # as long as can be
DRIVE = ConfigDrive(ITEMS, [NIC], USER_DATA, "pässword 7")

#: What CloudStack's ConfigDriveBuilder writes.
FILES = {
    "cloudstack/metadata/availability-zone.txt",
    "cloudstack/metadata/instance-id.txt",
    "cloudstack/metadata/local-hostname.txt",
    "cloudstack/metadata/public-hostname.txt",
    "cloudstack/metadata/service-offering.txt",
    "cloudstack/metadata/vm-id.txt",
    "cloudstack/password/vm_password.txt",
    "cloudstack/userdata/user_data.txt",
    "openstack/latest/meta_data.json",
    "openstack/latest/network_data.json",
    "openstack/latest/user_data",
    "openstack/latest/vendor_data.json",
}

needs_xorriso = pytest.mark.skipif(shutil.which("xorriso") is None, reason="needs xorriso: `make setup`")


def xorriso(*arguments: str | Path) -> str:
    done = subprocess.run(["xorriso", *arguments], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout + done.stderr


def test_its_files_are_cloudstacks() -> None:
    files = DRIVE.files
    assert set(files) == FILES
    assert files["cloudstack/metadata/availability-zone.txt"] == b"zone 1"
    assert files["cloudstack/userdata/user_data.txt"] == files["openstack/latest/user_data"] == USER_DATA
    assert files["cloudstack/password/vm_password.txt"] == "pässword 7".encode()
    assert json.loads(files["openstack/latest/meta_data.json"]) == {
        "availability_zone": "zone 1",
        "hostname": "one",
        "name": "one.cloud.internal",
        "uuid": ITEMS["vm-id"],
    }
    assert json.loads(files["openstack/latest/vendor_data.json"]) == {}


def test_every_nic_asks_for_its_address() -> None:
    found = json.loads(DRIVE.files["openstack/latest/network_data.json"])
    assert found["links"] == [
        {"id": "eth0", "type": "phy", "ethernet_mac_address": "02:00:00:00:00:01", "mtu": 1500}
    ]
    assert found["networks"] == [
        {"id": "eth0", "link": "eth0", "type": "ipv4_dhcp", "network_id": NIC.network_id}
    ]


def test_what_is_not_there_has_no_file() -> None:
    files = set(ConfigDrive(ITEMS, []).files)
    assert FILES - files == {
        "cloudstack/password/vm_password.txt",
        "cloudstack/userdata/user_data.txt",
        "openstack/latest/user_data",
    }
    assert files <= FILES


def test_its_secrets_are_in_no_text_of_it() -> None:
    assert "pässword" not in repr(DRIVE)
    assert str(USER_DATA) not in repr(DRIVE)


@needs_xorriso
def test_another_program_reads_label_files_and_modes(tmp_path: Path) -> None:
    (tmp_path / "drive.iso").write_bytes(DRIVE.image())
    described = xorriso("-indev", tmp_path / "drive.iso", "-pvd_info")
    assert "Volume id    : 'config-2'" in described
    xorriso("-osirrox", "on", "-indev", tmp_path / "drive.iso", "-extract", "/", tmp_path / "all")
    read = {
        str(path.relative_to(tmp_path / "all")): path.read_bytes()
        for path in (tmp_path / "all").rglob("*")
        if path.is_file()
    }
    assert read == DRIVE.files
    listed = xorriso("-indev", tmp_path / "drive.iso", "-find", "/", "-exec", "lsdl")
    modes = {
        line.split("'")[1]: line.split()[:4] for line in listed.splitlines() if line.startswith(("d", "-"))
    }
    assert modes["/cloudstack/password/vm_password.txt"] == ["-r--------", "1", "0", "0"]
    assert modes["/openstack/latest/user_data"] == ["-r--r--r--", "1", "0", "0"]
    assert modes["/openstack/latest"] == ["dr-xr-xr-x", "1", "0", "0"]


@needs_xorriso
def test_joliet_has_the_same_files(tmp_path: Path) -> None:
    """Windows reads these names."""
    (tmp_path / "drive.iso").write_bytes(DRIVE.image())
    options = ("-read_fs", "norock", "-osirrox", "on")
    xorriso(*options, "-indev", tmp_path / "drive.iso", "-extract", "/", tmp_path / "all")
    found = {
        str(path.relative_to(tmp_path / "all")) for path in (tmp_path / "all").rglob("*") if path.is_file()
    }
    assert found == FILES
