# SPDX-License-Identifier: Apache-2.0
"""A system on a disk as a user's VM that boots by UEFI, with the daemon's own command line."""

from __future__ import annotations

import shutil

import pytest

from booted_cloud import wait_for
from image.built_image import IMAGES
from integration.api_lab import api_of, deployment
from integration.daemon_lab import Host, host

pytestmark = [pytest.mark.image, pytest.mark.netns, pytest.mark.timeout(1800)]

__all__ = ["host"]  # the fixture

#: Firmware, and then the first program of the system, which the firmware has found by GRUB's default path.
FIRMWARE = b"BdsDxe: starting Boot"
SYSTEM = b"systemvm-preinit: REASON=awaiting_boot_arguments"


def test_a_system_on_a_disk_boots_by_uefi(host: Host) -> None:
    host.start()
    api = api_of(host)()
    [small] = api.listServiceOfferings(name="small")["serviceoffering"]
    values = deployment(host, api) | {"serviceofferingid": small["id"]}
    [disk] = (host.layout.root / "store").rglob("disk.qcow2")
    shutil.copyfile(IMAGES / "cpvm.qcow2", disk)
    vm = api.deployVirtualMachine(name="one", boottype="UEFI", **values)["virtualmachine"]
    log = host.layout.logs / f"{vm['instancename']}.log"
    wait_for("start of a boot loader", lambda: FIRMWARE in log.read_bytes())
    wait_for("first program of the system", lambda: SYSTEM in log.read_bytes(), timeout_s=600)
    api.destroyVirtualMachine(id=vm["id"], expunge=True)
    assert list(host.layout.uefi_variables.iterdir()) == []
