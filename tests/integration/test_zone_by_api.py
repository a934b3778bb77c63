# SPDX-License-Identifier: Apache-2.0
"""docs/zone-by-api.sh makes the zone of the sample file by the API alone, on a daemon without a zone; then
docs/zone-growth-by-api.sh adds to it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.daemon_lab import Host, host_with, until
from systemvm.host.zone import NetworksConfig
from systemvm.management.samples import read_sample

TOP = Path(__file__).resolve().parents[2]
SCRIPT, GROWTH = TOP / "docs/zone-by-api.sh", TOP / "docs/zone-growth-by-api.sh"


def run_script(host: Host, script: Path, **variables: str) -> None:
    """Run a script as an operator does, with the command line of the tree."""
    root = host.layout.root
    wanted = {
        "SYSTEMVM": f"{sys.executable} -m systemvm.cli --root {root}",
        "HOST_NAME": host.call("listHosts", type="Routing")["host"][0]["name"],
        "STORE_PATH": str(root / "store"),
        "PYTHONPATH": str(TOP / "agents"),
    }
    subprocess.run([script], env=os.environ | wanted | variables, check=True, timeout=600)


@pytest.mark.timeout(1200)
def test_the_zone_of_the_sample_is_made_by_the_api_alone(tmp_path: Path) -> None:
    with host_with(tmp_path, zone_file=False) as host:
        host.start()
        assert host.call("listZones").get("zone", []) == []
        assert host.machines() == {}
        run_script(host, SCRIPT)
        running = until(lambda: _running(host), "two running machines", timeout_s=600)
        check_addresses(running)
        ranges = {each["startip"]: each["endip"] for each in host.call("listVlanIpRanges")["vlaniprange"]}
        assert ranges == {"203.0.113.100": "203.0.113.199"}
        [network] = host.call("listNetworks")["network"]
        assert network["cidr"] == "10.13.0.0/24"
        pids = host.pids()
        check_growth(host)
        assert host.pids() == pids, "the zone has grown without an interruption"


def check_growth(host: Host) -> None:
    """Add a pod, public addresses and a pool while the zone runs."""
    pool = host.layout.root / "shared"
    pool.mkdir()
    like = host.layout.primary.stat()
    os.chown(pool, like.st_uid, like.st_gid)
    pool.chmod(like.st_mode)
    # the kernel of a development machine can lack VLANs: tests/unit/.../test_script.py adds one
    run_script(host, GROWTH, POOL=str(pool), VLAN="untagged")
    assert [pod["name"] for pod in host.call("listPods")["pod"]] == ["pod1", "pod2"]
    ranges = {each["cidr"]: each["startip"] for each in host.call("listVlanIpRanges")["vlaniprange"]}
    assert ranges == {"203.0.113.0/24": "203.0.113.100", "198.51.100.0/24": "198.51.100.100"}
    [shared] = host.call("listStoragePools", name="shared1")["storagepool"]
    assert (shared["scope"], shared["state"]) == ("ZONE", "Up")


def _running(host: Host) -> dict[str, Any] | None:
    found = host.machines()
    return found if [vm["state"] for vm in found.values()] == ["Running", "Running"] else None


def check_addresses(machines: dict[str, Any]) -> None:
    """Check that each system VM has addresses of the sample file's pools."""
    sample = yaml.safe_load(read_sample("zone.yaml"))["networks"]
    assert set(sample) <= set(NetworksConfig.__struct_fields__)
    for vm in machines.values():
        for key, network in (("privateip", "management"), ("publicip", "public")):
            assert vm[key].rpartition(".")[0] == sample[network]["pool"]["first"].rpartition(".")[0]
        assert vm["gateway"] == sample["public"]["gateway"]
    [ssvm] = [vm for vm in machines.values() if vm["systemvmtype"] == "secondarystoragevm"]
    assert ssvm["storageip"] == sample["storage"]["pool"]["first"]
