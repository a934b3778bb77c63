# SPDX-License-Identifier: Apache-2.0
"""VMs and downloads continue when the daemon is killed, and the next daemon adopts them."""

from __future__ import annotations

import pytest

from booted_cloud import BootedCloud

pytestmark = pytest.mark.cloud


def test_vms_and_downloads_survive_a_killed_daemon(cloud: BootedCloud) -> None:
    before = {kind: cloud.wait_up(kind) for kind in ("secondarystoragevm", "consoleproxy")}
    boot_ids = {
        vm["name"]: cloud.ssh(vm["name"], "cat /proc/sys/kernel/random/boot_id") for vm in before.values()
    }
    row = cloud.register("through the kill", f"{cloud.plan.source_url}/tiny.qcow2")
    cloud.lab.stop_daemon(kill=True)
    cloud.lab.start_daemon()
    for kind, vm in before.items():
        assert cloud.wait_up(kind)["name"] == vm["name"]
    for name, boot_id in boot_ids.items():
        assert cloud.ssh(name, "cat /proc/sys/kernel/random/boot_id") == boot_id, f"{name} was rebooted"
    assert cloud.wait_settled(row["id"])["isready"]
    cloud.delete_template(row["id"])
