# SPDX-License-Identifier: Apache-2.0
"""More faults of booted VMs, each with its reason, its hint, and the recovery when it is repaired."""

from __future__ import annotations

import base64

import pytest
import trustme

from booted_cloud import BootedCloud, wait_for
from explaining import CPVM, SSVM, filtered, reasons_of, wait_for_reason

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

IDENTITY = "/run/systemvm-agent/identity.pem"


def reboot(cloud: BootedCloud, name: str) -> None:
    """Follow the hint of most reasons."""
    cloud.cli("system-vm", "reboot", name)
    assert reasons_of(cloud.wait_up(CPVM)) == []


def test_a_masked_agent_is_diagnosed(cloud: BootedCloud) -> None:
    name = cloud.wait_up(CPVM)["name"]
    cloud.ssh(name, "systemctl mask --runtime --now systemvm-agent")
    vm = wait_for_reason(cloud, CPVM, "is masked")
    assert vm["reason"] == "Its agent is masked: its unit cannot start"
    unmask = f"systemvm ssh {name} -- systemctl unmask --runtime systemvm-agent"
    assert vm["hint"] == f"{unmask}, then start it"
    cloud.ssh(name, "systemctl unmask --runtime systemvm-agent && systemctl start systemvm-agent")
    assert reasons_of(cloud.wait_up(CPVM)) == []


def test_a_closed_port_is_diagnosed(cloud: BootedCloud) -> None:
    vm = cloud.wait_up(CPVM)
    with filtered(cloud, vm["linklocalip"], 8250, "reject with tcp reset"):
        cloud.ssh(vm["name"], "systemctl --no-block restart systemvm-agent")
        vm = wait_for_reason(cloud, CPVM, "refused the connection")
        assert vm["reason"] == (
            "Its agent cannot reach the daemon's port 8250: 169.254.0.1:8250 refused the connection"
        )
        assert vm["hint"].startswith("check control.address and control.port")
    assert reasons_of(cloud.wait_up(CPVM)) == []


def test_a_port_dropped_by_a_firewall_is_diagnosed(cloud: BootedCloud) -> None:
    vm = cloud.wait_up(CPVM)
    with filtered(cloud, vm["linklocalip"], 8250, "drop"):
        cloud.ssh(vm["name"], "systemctl --no-block restart systemvm-agent")
        found = wait_for_reason(cloud, CPVM, "port 8250")
        assert found["reason"] == (
            "Its agent cannot reach the daemon's port 8250: 169.254.0.1:8250 does not answer"
        )
        assert "nft list ruleset" in found["hint"]
    assert reasons_of(cloud.wait_up(CPVM)) == []


def test_a_control_nic_that_is_down_is_diagnosed(cloud: BootedCloud) -> None:
    name = cloud.wait_up(CPVM)["name"]
    # delayed, because this ssh session uses that NIC
    cloud.ssh(name, "systemd-run --quiet --on-active=2 ip link set eth0 down")
    vm = wait_for_reason(cloud, CPVM, "has no route to")
    assert vm["reason"] == "Its agent has no route to 169.254.0.1: its control NIC eth0 is down"
    assert vm["hint"] == f"run systemvm system-vm reboot {name} to set up its network again"
    reboot(cloud, name)


def test_an_untrusted_daemon_is_diagnosed(cloud: BootedCloud) -> None:
    name = cloud.wait_up(CPVM)["name"]
    own = cloud.ssh(name, f"cat {IDENTITY}")
    # its own key and certificate with a foreign CA
    key, end, _ = own.partition("-----END CERTIFICATE-----\n")
    foreign = key + end + trustme.CA().cert_pem.bytes().decode()
    text = base64.b64encode(foreign.encode()).decode()
    cloud.ssh(name, f"echo {text} | base64 -d > {IDENTITY} && systemctl restart systemvm-agent --no-block")
    vm = wait_for_reason(cloud, CPVM, "does not trust")
    assert vm["reason"] == (
        "Its agent was refused (refuses-our-certificate): it does not trust the CA of our certificate"
    )
    assert "which issues new credentials" in vm["hint"]
    reboot(cloud, name)


HANGS = "NFS server 10.12.0.2 hangs: it accepts connections and does not answer"


def test_a_hung_store_of_a_running_ssvm_is_diagnosed(cloud: BootedCloud) -> None:
    """It stays Up, because work without the store continues; `why` examines the store at once."""
    name = cloud.wait_up(SSVM)["name"]
    with cloud.lab.hung_storage():
        why = cloud.cli_json("system-vm", "why", name)
        assert why["agentstate"] == "Up"
        assert reasons_of(why) == [f"has no store: {HANGS}"]
        assert "restart it" in why["hint"]
        wait_for("the reason in the list", lambda: HANGS in cloud.system_vm(SSVM).get("reason", ""))
    # NFS clients retransmit: the first measurement of the store can still end without an answer
    wait_for(
        "an examination without a fault",
        lambda: not reasons_of(cloud.cli_json("system-vm", "why", name)),
    )


def test_a_hung_store_during_the_setup_of_an_ssvm_is_diagnosed(cloud: BootedCloud) -> None:
    name = cloud.wait_up(SSVM)["name"]
    with cloud.lab.hung_storage():
        cloud.ssh(name, "systemctl --no-block restart systemvm-agent")
        vm = wait_for_reason(cloud, SSVM, HANGS)
        assert "restart it" in vm["hint"]
    assert reasons_of(cloud.wait_up(SSVM)) == []


def test_the_guest_agent_does_not_log_each_poll(cloud: BootedCloud) -> None:
    name = cloud.wait_up(CPVM)["name"]
    cloud.ssh(name, "systemctl stop systemvm-agent")
    cloud.cli("system-vm", "why", name)
    journal = cloud.ssh(name, "journalctl -b -u qemu-guest-agent -o cat")
    assert "guest-exec called" in journal
    assert "guest-exec-status" not in journal
    cloud.ssh(name, "systemctl start systemvm-agent")
    cloud.wait_up(CPVM)
