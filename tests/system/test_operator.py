# SPDX-License-Identifier: Apache-2.0
"""The operator's access: the command line, ssh on 3922, JSON-RPC, and curl on the UNIX socket."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from booted_cloud import BootedCloud
from systemvm.service.slowness import scaled_s

pytestmark = pytest.mark.cloud

KINDS = ["secondarystoragevm", "consoleproxy"]


@pytest.mark.parametrize("kind", KINDS)
def test_ssh_reaches_the_system_vm_with_its_own_host_key(cloud: BootedCloud, kind: str) -> None:
    vm = cloud.system_vm(kind)
    assert cloud.ssh(vm["name"], "hostname").strip() == vm["name"]
    assert cloud.ssh(vm["name"], "systemctl is-active cloud").strip() == "active"
    cmdline = cloud.ssh(vm["name"], "cat /var/cache/cloud/cmdline")
    assert f"eth0ip={vm['linklocalip']}" in cmdline


def test_another_host_key_is_refused_and_a_reused_address_does_not_warn(cloud: BootedCloud) -> None:
    """The other VM's key represents an impostor; an old key of a reused address causes no warning."""
    ssvm, cpvm = (cloud.system_vm(kind)["name"] for kind in KINDS)
    line = shlex.split(cloud.cli("ssh", "--print", ssvm).stdout)
    known_hosts = Path(next(option for option in line if "UserKnownHostsFile" in option).partition("=")[2])
    other = shlex.split(cloud.cli("ssh", "--print", cpvm).stdout)
    other_known_hosts = Path(
        next(option for option in other if "UserKnownHostsFile" in option).partition("=")[2]
    )
    key = other_known_hosts.read_text().split(" ", 1)[1]
    address = next(argument for argument in line if argument.startswith("root@")).partition("@")[2]

    original = known_hosts.read_text()
    known_hosts.write_text(f"[{address}]:3922 {key}{original}")
    good = run_hostname(line)
    assert (good.stdout.strip(), good.stderr, good.returncode) == (ssvm, "", 0)

    known_hosts.write_text(f"{ssvm} {key}")
    refused = run_hostname(line)
    assert refused.returncode == 255
    assert "Host key verification failed" in refused.stderr
    assert cloud.ssh(ssvm, "hostname").strip() == ssvm  # each call gets the host key from the daemon again


def run_hostname(ssh: list[str]) -> subprocess.CompletedProcess[str]:
    command = [*ssh, "hostname"]
    return subprocess.run(command, capture_output=True, text=True, timeout=scaled_s(180.0), check=False)


def test_files_are_copied_in_both_directions(cloud: BootedCloud, tmp_path: Path) -> None:
    name = cloud.system_vm("secondarystoragevm")["name"]
    (tmp_path / "there").write_text("and back again\n")
    cloud.cli("cp", str(tmp_path / "there"), f"{name}:/tmp/there")
    cloud.cli("cp", f"{name}:/tmp/there", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "and back again\n"
    assert cloud.cli("cp", f"{name}:/no/such/file", str(tmp_path), check=False).returncode == 1


def test_logs_prints_the_journal_and_serial_the_console(cloud: BootedCloud) -> None:
    name = cloud.system_vm("secondarystoragevm")["name"]
    assert "systemvm-agent" in cloud.cli("logs", name, "-u", "systemvm-agent", "--since", "1 day ago").stdout
    following = subprocess.Popen(
        [*cloud.command_line, "logs", name, "-f", "--level", "warning"], stdout=subprocess.PIPE, text=True
    )
    try:
        cloud.ssh(
            name,
            "logger -p user.info 'canary of level info'; logger -p user.warning 'canary of level warning'",
        )
        assert following.stdout is not None
        first = next(line for line in following.stdout if "canary of level" in line)
        assert "canary of level warning" in first
    finally:
        following.terminate()
        following.wait(timeout=scaled_s(20.0))
    assert cloud.cli("serial", name).stdout.strip()


@pytest.mark.parametrize("kind", KINDS)
def test_check_reports_no_error(cloud: BootedCloud, kind: str) -> None:
    done = cloud.cli("check", cloud.system_vm(kind)["name"])
    assert "ERROR" not in done.stdout


def test_cloudstacks_check_script_works(cloud: BootedCloud) -> None:
    """CloudStack's smoke test expects exactly one ERROR and one WARNING: in the summary line."""
    name = cloud.system_vm("secondarystoragevm")["name"]
    output = cloud.ssh(name, "/usr/local/cloud/systemvm/ssvm-check.sh | grep -e ERROR -e WARNING -e FAIL")
    assert output.count("ERROR") == 1
    assert output.count("WARNING") == 1


def test_rpc_call_reaches_the_agent(cloud: BootedCloud) -> None:
    name = cloud.system_vm("secondarystoragevm")["name"]
    health = json.loads(cloud.cli("rpc", "call", name, "agent.health").stdout)
    assert health["failed_units"] == []
    assert health["agent_rss_bytes"] < 60 * 2**20
    document = json.loads(cloud.cli("rpc", "call", name, "rpc.discover").stdout)
    assert "template.download" in {method["name"] for method in document["methods"]}


def test_curl_calls_the_daemon_on_its_unix_socket(cloud: BootedCloud) -> None:
    done = subprocess.run(
        ["curl", "-sS", "--unix-socket", cloud.lab.root / "run/systemvm/managementd.sock", "http://localhost/rpc",
         "-d", '{"jsonrpc":"2.0","id":1,"method":"listSystemVms","params":{}}'],
        capture_output=True, text=True, timeout=scaled_s(30.0), check=True,
    )  # fmt: skip
    assert {vm["systemvmtype"] for vm in json.loads(done.stdout)["result"]["systemvm"]} == set(KINDS)


def test_guests_have_the_configured_memory(cloud: BootedCloud) -> None:
    """The lab boots them with their minimum: 512 MB and 256 MB."""
    for kind, memory_mib in (("secondarystoragevm", 512), ("consoleproxy", 256)):
        health = cloud.cli_json("rpc", "call", cloud.system_vm(kind)["name"], "agent.health")
        assert health["memory_total_bytes"] < memory_mib * 2**20
        assert health["memory_available_bytes"] > 40 * 2**20
