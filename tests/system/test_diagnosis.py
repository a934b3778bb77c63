# SPDX-License-Identifier: Apache-2.0
"""Two faults of booted VMs, each with its reason and hint, and the recovery when it is repaired."""

from __future__ import annotations

import pytest

from booted_cloud import BootedCloud
from explaining import CPVM, SSVM, reasons_of, wait_for_reason

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]


def test_a_stopped_agent_is_diagnosed_and_ssh_still_works(cloud: BootedCloud) -> None:
    name = cloud.wait_up(CPVM)["name"]
    cloud.ssh(name, "systemctl stop systemvm-agent")
    vm = wait_for_reason(cloud, CPVM, "is stopped")
    assert vm["reason"] == "Its agent is stopped: its unit was ended"
    assert vm["hint"] == f"systemvm ssh {name} -- systemctl start systemvm-agent"
    why = cloud.cli_json("system-vm", "why", name)
    assert (why["reason"], why["hint"]) == (vm["reason"], vm["hint"])
    examined = {source["what"]: source["said"] for source in why["looked_at"]}
    assert examined["hypervisor"] == "running"
    assert "ActiveState=inactive" in examined["inside: agent"]
    assert "eth0" in examined["inside: addresses"]
    # exactly the command of the hint
    cloud.ssh(name, "systemctl start systemvm-agent")
    assert reasons_of(cloud.wait_up(CPVM)) == []


def test_a_store_that_cannot_be_mounted_is_diagnosed(cloud: BootedCloud) -> None:
    name = cloud.wait_up(SSVM)["name"]
    # before the server stops: afterwards each access to the mount would block
    cloud.ssh(name, "umount --lazy --all --types nfs,nfs4")
    cloud.lab.stop_storage()
    try:
        cloud.ssh(name, "systemctl --no-block restart systemvm-agent")
        found = wait_for_reason(cloud, SSVM, "has no store: NFS")
        assert "10.12.0.2" in found["reason"]
        assert found["hint"]
    finally:
        cloud.lab.start_storage()
    assert reasons_of(cloud.wait_up(SSVM)) == []
