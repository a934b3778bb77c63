# SPDX-License-Identifier: Apache-2.0
"""Three faults on booted machines, each with the reason and the hint that operators read, and its end."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from booted_cloud import BootedCloud, wait_for

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

SSVM, CPVM = "secondarystoragevm", "consoleproxy"
TABLE = "explained"


def wait_for_reason(cloud: BootedCloud, kind: str, words: str) -> dict[str, Any]:
    """The VM's row once its reason has these words, the same in both lists of the API."""

    def row() -> dict[str, Any] | None:
        vm = cloud.system_vm(kind)
        return vm if words in vm.get("reason", "") else None

    vm: dict[str, Any] = wait_for(f"{words!r} of {cloud.system_vm(kind)}", row, 300)
    [host] = cloud.api.listHosts(name=vm["name"])["host"]
    assert (host["state"], host["reason"], host["hint"]) == (vm["agentstate"], vm["reason"], vm["hint"])
    assert (vm["state"], vm["agentstate"]) == ("Running", "Alert")
    shown = " ".join(cloud.cli("system-vm", "list").stdout.split())
    assert words in shown
    return vm


@contextmanager
def dropped(cloud: BootedCloud, address: str, port: int) -> Iterator[None]:
    """Nothing from this address reaches the port."""
    inside = ["ip", "netns", "exec", cloud.plan.host_namespace, "nft"]
    rules = f"""table inet {TABLE} {{ chain input {{
        type filter hook input priority -300;
        ip saddr {address} tcp dport {port} drop
    }}; }}"""
    subprocess.run([*inside, "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run([*inside, "delete", "table", "inet", TABLE], check=True)


def test_a_stopped_agent_is_named_and_its_vm_can_be_entered_all_the_same(cloud: BootedCloud) -> None:
    name = cloud.wait_up(CPVM)["name"]
    cloud.ssh(name, "systemctl stop systemvm-agent")
    vm = wait_for_reason(cloud, CPVM, "is stopped")
    assert vm["reason"] == "Its agent is stopped: somebody ended its unit"
    assert vm["hint"] == f"systemvm ssh {name} -- systemctl start systemvm-agent"
    why = cloud.cli_json("system-vm", "why", name)
    assert (why["reason"], why["hint"]) == (vm["reason"], vm["hint"])
    looked_at = {look["what"]: look["said"] for look in why["looked_at"]}
    assert looked_at["hypervisor"] == "running"
    assert "ActiveState=inactive" in looked_at["inside: agent"]
    assert "eth0" in looked_at["inside: addresses"]
    # the hint, word for word
    cloud.ssh(name, "systemctl start systemvm-agent")
    assert cloud.wait_up(CPVM).get("reason") is None


def test_a_port_that_a_firewall_drops_is_named(cloud: BootedCloud) -> None:
    vm = cloud.wait_up(CPVM)
    with dropped(cloud, vm["linklocalip"], 8250):
        cloud.ssh(vm["name"], "systemctl --no-block restart systemvm-agent")
        found = wait_for_reason(cloud, CPVM, "8250 closed")
        assert found["reason"] == (
            "Its agent finds the daemon's port 8250 closed: 169.254.0.1:8250 does not answer"
        )
        assert "nft list ruleset" in found["hint"]
    assert cloud.wait_up(CPVM).get("reason") is None


def test_a_store_that_cannot_be_mounted_is_named(cloud: BootedCloud) -> None:
    name = cloud.wait_up(SSVM)["name"]
    # while the server answers: a path on a dead one can only be waited for
    cloud.ssh(name, "umount --lazy --all --types nfs,nfs4")
    cloud.lab.stop_storage()
    try:
        cloud.ssh(name, "systemctl --no-block restart systemvm-agent")
        found = wait_for_reason(cloud, SSVM, "has no store: NFS")
        assert "10.12.0.2" in found["reason"]
        assert found["hint"]
    finally:
        cloud.lab.start_storage()
    assert cloud.wait_up(SSVM).get("reason") is None
