# SPDX-License-Identifier: Apache-2.0
"""CloudStack's SMOKE/test_diagnostics.py on both system VMs, and secrets that must be in no zip."""

from __future__ import annotations

import io
import urllib.request
import zipfile
from typing import Any

import pytest

from booted_cloud import BootedCloud
from systemvm.service.slowness import scaled_s

pytestmark = pytest.mark.cloud

KINDS = ["secondarystoragevm", "consoleproxy"]


def run(cloud: BootedCloud, kind: str, type: str, address: str, params: str = "") -> dict[str, Any]:
    request = {"targetid": cloud.system_vm(kind)["id"], "type": type, "ipaddress": address}
    if params:
        request["params"] = params
    found: dict[str, Any] = cloud.job(cloud.api.runDiagnostics(**request)["jobid"])["diagnostics"]
    return found


def collect(cloud: BootedCloud, kind: str, files: str = "") -> dict[str, str]:
    request = {"targetid": cloud.system_vm(kind)["id"]} | ({"files": files} if files else {})
    url = cloud.job(cloud.api.getDiagnosticsData(**request)["jobid"])["diagnostics"]["url"]
    with urllib.request.urlopen(url, timeout=scaled_s(60.0)) as response:
        assert response.status == 200
        data = response.read()
    with zipfile.ZipFile(io.BytesIO(data)) as zipped:
        return {name: zipped.read(name).decode() for name in zipped.namelist()}


@pytest.mark.parametrize("kind", KINDS)
def test_ping_and_traceroute_run_in_the_guest(cloud: BootedCloud, kind: str) -> None:
    gateway = cloud.system_vm(kind)["gateway"]
    ping = run(cloud, kind, "ping", gateway)
    assert ping["exitcode"] == "0", ping
    assert "4 packets transmitted" in ping["stdout"]
    assert run(cloud, kind, "ping", "192.0.2.2", "-c 1 -W 2")["exitcode"] != "0"
    assert run(cloud, kind, "arping", gateway, "-I eth2")["exitcode"] == "0"
    assert run(cloud, kind, "traceroute", gateway, "-m 5")["exitcode"] == "0"


def test_the_command_line_runs_diagnostics(cloud: BootedCloud) -> None:
    vm = cloud.system_vm("consoleproxy")
    done = cloud.cli("diagnose", vm["name"], "ping", vm["gateway"], "-c", "1")
    assert "1 packets transmitted, 1 received" in done.stdout
    assert (
        cloud.cli("diagnose", vm["name"], "ping", "192.0.2.2", "-c", "1", "-W", "1", check=False).returncode
        == 1
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_zip_contains_diagnostics_and_no_secret(cloud: BootedCloud, kind: str) -> None:
    name = cloud.system_vm(kind)["name"]
    line = "password=canary-journal token: canary-journal"
    cloud.ssh(name, f"logger -t systemvm-canary '{line}'; journalctl --sync")
    files = collect(cloud, kind)
    assert "table inet" in files["iptables"]
    assert "eth2" in files["ipaddr"]
    assert "default" in files["iproute"]
    assert files["etc/cloudstack-release"].startswith("Cloudstack Release")
    assert "systemvm-agent" in files["var/log/cloud.log"]
    assert "canary" in files["var/log/daemon.log"], "the line without its secrets must be there"
    missing = files["fileinfo.txt"].partition("File Not Found!!:")[2].split()
    assert missing == []
    secrets = [
        "canary-journal",
        "PRIVATE KEY",
        *cloud.ssh(name, "cat /run/systemvm-agent/identity.pem").splitlines()[1:3],
        *cloud.ssh(name, "awk -F: '$1==\"root\" && length($2)>3 {print $2}' /etc/shadow").split(),
    ]
    for secret in secrets:
        for where, text in files.items():
            assert secret not in text, f"{secret[:20]} is in {where}"


def test_only_requested_and_allowed_files_are_returned(cloud: BootedCloud) -> None:
    files = collect(cloud, "secondarystoragevm", "/var/log/cloud.log,/etc/shadow,iprule")
    assert set(files) == {"var/log/cloud.log", "iprule", "fileinfo.txt"}
    assert "etc/shadow" in files["fileinfo.txt"].partition("File Not Found!!:")[2]
