# SPDX-License-Identifier: Apache-2.0
"""The lifecycle of system VMs, with the assertions of CloudStack's test_ssvm.py, and patches of running ones.

A start of a VM takes long, so each test makes all its assertions with one start.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from booted_cloud import BootedCloud, wait_for
from other_code import LINK, agent_version, change_version, identity, other_code
from systemvm.lab.plan import EXPORT_PATH, STORAGE
from systemvm.lab.waiting import WaitState

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

SSVM, CPVM = "secondarystoragevm", "consoleproxy"


def running_vm(cloud: BootedCloud, kind: str) -> dict[str, Any]:
    """Return the VM of a kind; assert SMOKE 01 and 02: each zone has one Running, with all keys."""
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


def assert_guest_is_configured(cloud: BootedCloud, vm: dict[str, Any]) -> None:
    """Assert SMOKE 03 and 04: their service is active, and the boot arguments have the VM's address."""
    name = vm["name"]
    output = cloud.ssh(
        name, "systemctl is-active cloud; tr ' ' '\\n' < /var/cache/cloud/cmdline | grep ^eth0ip="
    )
    assert output.split() == ["active", f"eth0ip={vm['linklocalip']}"]


def boot_id(cloud: BootedCloud, vm: dict[str, Any]) -> str:
    return cloud.ssh(vm["name"], "cat /proc/sys/kernel/random/boot_id").strip()


def bootstrap_serials(cloud: BootedCloud, name: str) -> set[str]:
    """Return the serials of the certificates that were issued for starts of this VM."""
    rows = cloud.cli_json("certificate", "list", name)
    return {row["serial"] for row in rows if row["kind"] == "bootstrap"}


# ---- a patch, which starts no VM; patches that fail are in tests/matrix -------------------------------


@pytest.fixture
def code(cloud: BootedCloud) -> Iterator[Path]:
    with other_code(cloud) as place:
        yield place


def test_a_patch_replaces_the_agent_and_keeps_identity_and_vm(cloud: BootedCloud, code: Path) -> None:
    vm = cloud.wait_up(CPVM)
    name = vm["name"]
    before = identity(cloud, name), boot_id(cloud, vm)
    options = cloud.ssh(name, "findmnt -no OPTIONS /").split(",")[0]
    change_version(code, "9.9.1")
    output = cloud.cli("system-vm", "patch", name).stdout
    label = re.search(r"9\.9\.1\+[0-9a-f]{8}", output)
    assert label, output
    assert agent_version(cloud, name) == label[0]
    assert cloud.ssh(name, LINK).strip() == label[0]
    assert (identity(cloud, name), boot_id(cloud, vm)) == before
    assert cloud.system_vm(CPVM)["agentstate"] == "Up"
    assert cloud.ssh(name, "findmnt -no OPTIONS /").split(",")[0] == options
    assert "/opt/" not in cloud.ssh(name, "cat /proc/self/mountinfo")
    assert_guest_is_configured(cloud, vm)
    # a second patch with the same code does nothing, also by the API
    job = cloud.job(cloud.api.patchSystemVm(id=vm["id"])["jobid"])
    assert job["success"] is True
    assert "already runs" in job["displaytext"]


# ---- one start in each test --------------------------------------------------------------------------------


def test_a_forced_reboot_keeps_the_public_address_and_the_patch(cloud: BootedCloud) -> None:
    before = running_vm(cloud, CPVM)
    old_boot_id, link = boot_id(cloud, before), cloud.ssh(before["name"], LINK)
    cloud.cli("system-vm", "reboot", before["name"], "--forced")
    cloud.wait_up(CPVM)
    after = running_vm(cloud, CPVM)
    assert (after["name"], after["publicip"]) == (before["name"], before["publicip"])
    assert boot_id(cloud, after) != old_boot_id
    assert cloud.ssh(after["name"], LINK) == link
    assert_guest_is_configured(cloud, after)


def test_a_destroyed_system_vm_is_replaced_under_another_name(cloud: BootedCloud) -> None:
    before = running_vm(cloud, CPVM)
    cloud.cli("system-vm", "destroy", before["name"], "--yes")

    def another() -> bool:
        vms = cloud.api.listSystemVms(systemvmtype=CPVM).get("systemvm", [])
        return [vm["name"] != before["name"] and vm["state"] == "Running" for vm in vms] == [True]

    wait_for("another console proxy", another)
    cloud.wait_up(CPVM)
    after = running_vm(cloud, CPVM)
    assert_guest_is_configured(cloud, after)
    hosts = cloud.api.listHosts()
    assert before["name"] not in json.dumps(hosts)


def test_a_reboot_keeps_the_public_address(cloud: BootedCloud) -> None:
    before = running_vm(cloud, CPVM)
    old_boot_id = boot_id(cloud, before)
    cloud.cli("system-vm", "reboot", before["name"])
    cloud.wait_up(CPVM)
    after = running_vm(cloud, CPVM)
    assert (after["name"], after["publicip"]) == (before["name"], before["publicip"])
    assert boot_id(cloud, after) != old_boot_id


def test_a_guest_that_resets_itself_starts_with_new_credentials(cloud: BootedCloud) -> None:
    """QEMU ends instead of resetting, and the daemon starts the VM with a new key and certificate."""
    before = running_vm(cloud, CPVM)
    name = before["name"]
    old_boot_id, own, bootstrap = (
        boot_id(cloud, before),
        identity(cloud, name),
        bootstrap_serials(cloud, name),
    )
    # the reset waits for the end of this ssh session, whose process is the shell's parent
    after_the_session = "while [ -e /proc/$PPID ]; do sleep 0.2; done; systemctl reboot -ff"
    cloud.ssh(name, f'nohup sh -c "{after_the_session}" > /dev/null 2>&1 &')
    wait_for_next_start(cloud, CPVM, name, bootstrap)
    cloud.wait_up(CPVM)
    after = running_vm(cloud, CPVM)
    assert (after["name"], after["publicip"]) == (name, before["publicip"])
    assert boot_id(cloud, after) != old_boot_id
    assert identity(cloud, name) != own


def test_a_stopped_system_vm_starts_with_its_zones_current_configuration(cloud: BootedCloud) -> None:
    """SMOKE 05 and 13: the NFS version of an image store applies from the next start.

    It is 3 then, with mountd on a port of its own and without locks; 4.2 is mounted by hand beside it.
    """
    zone_file = next(cloud.plan.layout.zones.glob("*.yaml"))
    original = zone_file.read_text()
    before = running_vm(cloud, SSVM)
    assert mounted_version(cloud, before) == "4.1"
    try:
        set_nfs_version(zone_file, "3")
        after = restarted_with_new_configuration(cloud)
        assert after["name"] == before["name"]
        assert after["publicip"] == before["publicip"]
        assert_guest_is_configured(cloud, after)
        assert mounted_version(cloud, after) == "3"
        assert "nolock" in store_mount(cloud, after).split(",")
        row = cloud.wait_settled(cloud.register("by-nfs-3", f"{cloud.plan.source_url}/tiny.qcow2")["id"])
        assert row["isready"], row
        cloud.delete_template(row["id"])
        mount = (
            f"mount -t nfs -o vers=4.2 {STORAGE.address.ip}:{EXPORT_PATH} /mnt && findmnt -no OPTIONS /mnt"
        )
        assert "vers=4.2" in cloud.ssh(after["name"], f"unshare --mount sh -c '{mount}'")
    finally:
        zone_file.write_text(original)
        # later tests read from the store, and by 4.2 the lab's server answers reads with EIO
        restarted_with_new_configuration(cloud)


def restarted_with_new_configuration(cloud: BootedCloud) -> dict[str, Any]:
    """Return the SSVM after a restart of the daemon and of the VM."""
    name = running_vm(cloud, SSVM)["name"]
    cloud.lab.stop_daemon()
    cloud.lab.start_daemon()
    cloud.wait_up(SSVM)
    earlier = bootstrap_serials(cloud, name)
    cloud.cli("system-vm", "stop", name)
    wait_for_next_start(cloud, SSVM, name, earlier)
    cloud.wait_up(SSVM)
    return running_vm(cloud, SSVM)


def wait_for_next_start(cloud: BootedCloud, kind: str, name: str, earlier: set[str]) -> None:
    """Wait until the daemon has issued a bootstrap certificate that is not in `earlier`: for another start.

    The guest erases the key of that certificate once it has its own, but the daemon keeps the record.
    """

    def look() -> WaitState[bool]:
        vm = cloud.system_vm(kind)
        states = (vm["state"], vm.get("agentstate"), vm.get("reason"))
        has_started = bool(bootstrap_serials(cloud, name) - earlier)
        return WaitState(f"another start of {name}: {states}", has_started or None, progress=states)

    cloud.lab.wait(look, lambda: cloud.lab.why(kind))


def mounted_version(cloud: BootedCloud, vm: dict[str, Any]) -> str:
    found = re.findall(r"vers=([0-9.]+)", store_mount(cloud, vm))
    assert found, "no store is mounted"
    result: str = found[-1]
    return result


def store_mount(cloud: BootedCloud, vm: dict[str, Any]) -> str:
    """Return the options that the store is mounted with."""
    return cloud.ssh(vm["name"], "findmnt -no OPTIONS -t nfs,nfs4").strip()


def set_nfs_version(zone_file: Path, version: str) -> None:
    import yaml

    zone = yaml.safe_load(zone_file.read_text())
    for store in zone["image_stores"]:
        store["nfs_version"] = version
    zone_file.write_text(yaml.safe_dump(zone))
