# SPDX-License-Identifier: Apache-2.0
"""The operator's ways in: the command line, ssh on 3922, JSON-RPC, and plain curl on the UNIX socket."""

from __future__ import annotations

import json
import subprocess

import pytest

from booted_cloud import BootedCloud

pytestmark = pytest.mark.cloud

KINDS = ["secondarystoragevm", "consoleproxy"]


@pytest.mark.parametrize("kind", KINDS)
def test_ssh_reaches_the_system_vm_with_its_own_host_key(cloud: BootedCloud, kind: str) -> None:
    vm = cloud.system_vm(kind)
    assert cloud.ssh(vm["name"], "hostname").strip() == vm["name"]
    assert cloud.ssh(vm["name"], "systemctl is-active cloud").strip() == "active"
    cmdline = cloud.ssh(vm["name"], "cat /var/cache/cloud/cmdline")
    assert f"eth0ip={vm['linklocalip']}" in cmdline


@pytest.mark.parametrize("kind", KINDS)
def test_check_finds_everything_good(cloud: BootedCloud, kind: str) -> None:
    done = cloud.cli("check", cloud.system_vm(kind)["name"])
    assert "ERROR" not in done.stdout


def test_cloudstacks_own_check_script(cloud: BootedCloud) -> None:
    """CloudStack's smoke test counts exactly one ERROR and one WARNING: the summary line."""
    name = cloud.system_vm("secondarystoragevm")["name"]
    printed = cloud.ssh(name, "/usr/local/cloud/systemvm/ssvm-check.sh | grep -e ERROR -e WARNING -e FAIL")
    assert printed.count("ERROR") == 1
    assert printed.count("WARNING") == 1


def test_rpc_call_reaches_the_agent(cloud: BootedCloud) -> None:
    name = cloud.system_vm("secondarystoragevm")["name"]
    health = json.loads(cloud.cli("rpc", "call", name, "agent.health").stdout)
    assert health["failed_units"] == []
    assert health["agent_rss_bytes"] < 60 * 2**20
    document = json.loads(cloud.cli("rpc", "call", name, "rpc.discover").stdout)
    assert "template.download" in {method["name"] for method in document["methods"]}


def test_curl_on_the_unix_socket(cloud: BootedCloud) -> None:
    done = subprocess.run(
        ["curl", "-sS", "--unix-socket", cloud.lab.root / "run/systemvm/managementd.sock", "http://localhost/rpc",
         "-d", '{"jsonrpc":"2.0","id":1,"method":"listSystemVms","params":{}}'],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert {vm["systemvmtype"] for vm in json.loads(done.stdout)["result"]["systemvm"]} == set(KINDS)


def test_the_memory_of_the_guests(cloud: BootedCloud) -> None:
    """The lab boots them with the least they must work with: 512 MB and 256 MB."""
    for kind, memory_mib in (("secondarystoragevm", 512), ("consoleproxy", 256)):
        health = cloud.cli_json("rpc", "call", cloud.system_vm(kind)["name"], "agent.health")
        assert health["memory_total_bytes"] < memory_mib * 2**20
        assert health["memory_available_bytes"] > 40 * 2**20
