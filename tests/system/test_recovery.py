# SPDX-License-Identifier: Apache-2.0
"""What a host's bad day does: the daemon is killed, a system VM stops, and all comes back by itself."""

from __future__ import annotations

import pytest

from booted_cloud import BootedCloud, wait_for

pytestmark = pytest.mark.cloud


def test_machines_and_downloads_survive_a_killed_daemon(cloud: BootedCloud) -> None:
    before = {kind: cloud.wait_up(kind) for kind in ("secondarystoragevm", "consoleproxy")}
    boot_ids = {
        vm["name"]: cloud.ssh(vm["name"], "cat /proc/sys/kernel/random/boot_id") for vm in before.values()
    }
    row = cloud.register("through the kill", f"{cloud.plan.source_url}/tiny.qcow2")
    cloud.lab.stop_daemon(kill=True)
    cloud.lab.start_daemon()
    for kind, vm in before.items():
        assert cloud.wait_up(kind, timeout_s=90)["name"] == vm["name"]
    for name, boot_id in boot_ids.items():
        assert cloud.ssh(name, "cat /proc/sys/kernel/random/boot_id") == boot_id, f"{name} was booted anew"
    assert cloud.wait_settled(row["id"])["isready"]
    cloud.delete_template(row["id"])


def test_a_rebooted_system_vm_keeps_its_public_address(cloud: BootedCloud) -> None:
    before = cloud.wait_up("consoleproxy")
    cloud.cli("system-vm", "reboot", before["name"])
    after = cloud.wait_up("consoleproxy")
    assert after["publicip"] == before["publicip"]


def test_a_stopped_system_vm_is_started_again(cloud: BootedCloud) -> None:
    before = cloud.wait_up("secondarystoragevm")
    cloud.cli("system-vm", "stop", before["name"])
    wait_for("it to leave Up", lambda: cloud.system_vm("secondarystoragevm").get("agentstate") != "Up", 60)
    assert cloud.wait_up("secondarystoragevm")["name"] == before["name"]
