# SPDX-License-Identifier: Apache-2.0
"""The life of system VMs, as CloudStack's smoke tests assert it (test_ssvm.py), and patches of running ones.

Starts of machines are dear, so each test asks of its one start all that there is to ask.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from booted_cloud import BootedCloud, wait_for
from other_code import LINK, agent_version, changed, identity, other_code

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

SSVM, CPVM = "secondarystoragevm", "consoleproxy"


def everything_is_there(cloud: BootedCloud, kind: str) -> dict[str, Any]:
    """SMOKE test_ssvm.py 01 and 02: one Running VM of the type a zone, with all its keys."""
    zone = cloud.api.listZones()["zone"][0]
    vms = [vm for vm in cloud.api.listSystemVms(systemvmtype=kind)["systemvm"] if vm["state"] == "Running"]
    assert len(vms) == cloud.api.listZones()["count"]
    [vm] = vms
    for key in (
        "privateip",
        "linklocalip",
        "publicip",
        "serviceofferingid",
        "serviceofferingname",
        "gateway",
    ):
        assert vm.get(key), f"{key} is missing"
    assert vm["dns1"] == zone["dns1"]
    assert vm.get("dns2") == zone.get("dns2")
    assert vm["agentstate"] == "Up"
    found: dict[str, Any] = vm
    return found


def its_inside_is_right(cloud: BootedCloud, vm: dict[str, Any]) -> None:
    """SMOKE 03 and 04: the service that they check, and the boot arguments' address."""
    name = vm["name"]
    said = cloud.ssh(
        name, "systemctl is-active cloud; tr ' ' '\\n' < /var/cache/cloud/cmdline | grep ^eth0ip="
    )
    assert said.split() == ["active", f"eth0ip={vm['linklocalip']}"]


def boot_id(cloud: BootedCloud, vm: dict[str, Any]) -> str:
    return cloud.ssh(vm["name"], "cat /proc/sys/kernel/random/boot_id").strip()


def bootstrap_serials(cloud: BootedCloud, name: str) -> set[str]:
    """Return the serials of the certificates that starts of this VM were given."""
    rows = cloud.cli_json("certificate", "list", name)
    return {row["serial"] for row in rows if row["kind"] == "bootstrap"}


# ---- a patch, which starts no machine; those that fail are in tests/matrix -------------------------------


@pytest.fixture
def code(cloud: BootedCloud) -> Iterator[Path]:
    with other_code(cloud) as place:
        yield place


def test_a_patch_replaces_the_agent_and_keeps_identity_and_vm(cloud: BootedCloud, code: Path) -> None:
    vm = cloud.wait_up(CPVM)
    name = vm["name"]
    before = identity(cloud, name), boot_id(cloud, vm)
    options = cloud.ssh(name, "findmnt -no OPTIONS /").split(",")[0]
    changed(code, "9.9.1")
    said = cloud.cli("system-vm", "patch", name).stdout
    label = re.search(r"9\.9\.1\+[0-9a-f]{8}", said)
    assert label, said
    assert agent_version(cloud, name) == label[0]
    assert cloud.ssh(name, LINK).strip() == label[0]
    assert (identity(cloud, name), boot_id(cloud, vm)) == before
    assert cloud.system_vm(CPVM)["agentstate"] == "Up"
    assert cloud.ssh(name, "findmnt -no OPTIONS /").split(",")[0] == options
    assert "/opt/" not in cloud.ssh(name, "cat /proc/self/mountinfo")
    its_inside_is_right(cloud, vm)
    # the same again is nothing to do, for the API too
    job = cloud.job(cloud.api.patchSystemVm(id=vm["id"])["jobid"])
    assert job["success"] is True
    assert "already runs" in job["displaytext"]


# ---- starts, one a test --------------------------------------------------------------------------------


def test_a_forced_reboot_keeps_the_public_address_and_the_patch(cloud: BootedCloud) -> None:
    before = everything_is_there(cloud, CPVM)
    was, link = boot_id(cloud, before), cloud.ssh(before["name"], LINK)
    cloud.cli("system-vm", "reboot", before["name"], "--forced")
    cloud.wait_up(CPVM)
    after = everything_is_there(cloud, CPVM)
    assert (after["name"], after["publicip"]) == (before["name"], before["publicip"])
    assert boot_id(cloud, after) != was
    assert cloud.ssh(after["name"], LINK) == link
    its_inside_is_right(cloud, after)


def test_a_destroyed_system_vm_is_replaced_under_another_name(cloud: BootedCloud) -> None:
    before = everything_is_there(cloud, CPVM)
    cloud.cli("system-vm", "destroy", before["name"], "--yes")

    def another() -> bool:
        vms = cloud.api.listSystemVms(systemvmtype=CPVM).get("systemvm", [])
        return [vm["name"] != before["name"] and vm["state"] == "Running" for vm in vms] == [True]

    wait_for("another console proxy", another)
    cloud.wait_up(CPVM)
    after = everything_is_there(cloud, CPVM)
    its_inside_is_right(cloud, after)
    hosts = cloud.api.listHosts()
    assert before["name"] not in json.dumps(hosts)


def test_a_reboot_keeps_the_public_address(cloud: BootedCloud) -> None:
    before = everything_is_there(cloud, CPVM)
    was = boot_id(cloud, before)
    cloud.cli("system-vm", "reboot", before["name"])
    cloud.wait_up(CPVM)
    after = everything_is_there(cloud, CPVM)
    assert (after["name"], after["publicip"]) == (before["name"], before["publicip"])
    assert boot_id(cloud, after) != was


def test_a_guest_that_resets_itself_starts_with_new_credentials(cloud: BootedCloud) -> None:
    """QEMU ends instead of resetting, and the daemon starts the VM with a new key and certificate."""
    before = everything_is_there(cloud, CPVM)
    name = before["name"]
    was, own, bootstrap = boot_id(cloud, before), identity(cloud, name), bootstrap_serials(cloud, name)
    # a moment later: a machine that is gone says no goodbye to ssh
    cloud.ssh(name, "nohup sh -c 'sleep 1; systemctl reboot -ff' > /dev/null 2>&1 &")
    wait_for("its agent to be lost", lambda: cloud.system_vm(CPVM).get("agentstate") != "Up", 60, 0.2)
    cloud.wait_up(CPVM)
    after = everything_is_there(cloud, CPVM)
    assert (after["name"], after["publicip"]) == (name, before["publicip"])
    assert boot_id(cloud, after) != was
    # the guest erases its bootstrap key once it has a certificate; the daemon's record shows a new one
    assert bootstrap_serials(cloud, name) - bootstrap
    assert identity(cloud, name) != own


def test_a_stopped_system_vm_starts_with_its_zones_current_configuration(cloud: BootedCloud) -> None:
    """SMOKE 05 and 13: the NFS version of an image store applies from the next start."""
    zone_file = next(cloud.plan.layout.zones.glob("*.yaml"))
    kept = zone_file.read_text()
    before = everything_is_there(cloud, SSVM)
    assert mounted_version(cloud, before) == "4.2"
    try:
        with_version(zone_file, "4.1")
        cloud.lab.stop_daemon()
        cloud.lab.start_daemon()
        cloud.wait_up(SSVM)
        cloud.cli("system-vm", "stop", before["name"])
        wait_for("it to leave Up", lambda: cloud.system_vm(SSVM).get("agentstate") != "Up", 60, 0.2)
        cloud.wait_up(SSVM)
        after = everything_is_there(cloud, SSVM)
        assert after["name"] == before["name"]
        assert after["publicip"] == before["publicip"]
        its_inside_is_right(cloud, after)
        assert mounted_version(cloud, after) == "4.1"
    finally:
        zone_file.write_text(kept)


def mounted_version(cloud: BootedCloud, vm: dict[str, Any]) -> str:
    found = re.findall(r"vers=([0-9.]+)", cloud.ssh(vm["name"], "mount -t nfs4"))
    assert found, "no store is mounted"
    result: str = found[-1]
    return result


def with_version(zone_file: Path, version: str) -> None:
    import yaml

    zone = yaml.safe_load(zone_file.read_text())
    for store in zone["image_stores"]:
        store["nfs_version"] = version
    zone_file.write_text(yaml.safe_dump(zone))
