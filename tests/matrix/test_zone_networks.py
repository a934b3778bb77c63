# SPDX-License-Identifier: Apache-2.0
"""Zones with other networks than the sample's, each booted: a template becomes Ready and a console opens.

tests/system/test_zone_networks.py has the smallest one, with neither a public nor a storage network.
"""

from __future__ import annotations

from ipaddress import IPv6Interface
from pathlib import Path

import pytest

from switched_cloud import SwitchedCloud, switched
from systemvm.lab.plan import SOURCE, STORAGE
from zone_by_api import ZoneShape, check_template_and_console, label, zone_of_shape

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

PUBLIC = label("203.0.113.1/24", "public")
SHAPES = {
    "without-public": ZoneShape(
        {"cloudbr1": label("10.11.0.1/24", "management"), "cloudbr2": label("10.12.0.1/24", "storage")},
        {"PUBLIC": "", "ROUTER": "10.11.0.254"},
        router_on="cloudbr1",
    ),
    "without-storage": ZoneShape(
        {"cloudbr0": PUBLIC, "cloudbr2": label("10.12.0.1/24", "management")},
        {"MANAGEMENT": "cloudbr2", "POD": "10.12.0", "STORAGE": ""},
    ),
    "one-bridge-for-two": ZoneShape(
        {"cloudbr0": PUBLIC, "cloudbr2": label("10.11.0.1/24 10.12.0.1/24", "management", "storage")},
        {"MANAGEMENT": "cloudbr2"},
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_template_is_ready_and_a_console_opens(name: str, tmp_path: Path) -> None:
    with zone_of_shape(SHAPES[name], f"zone-{name}") as cloud:
        check_template_and_console(cloud, tmp_path)


def test_bridges_of_open_vswitch(tmp_path: Path) -> None:
    """All but that of control traffic; ovs-vswitchd is the datapath, which needs no module of the kernel."""
    shape = ZoneShape(
        {
            "cloudbr0": switched("203.0.113.1/24", "public", uplink="source0"),
            "cloudbr1": switched("10.11.0.1/24", "management"),
            "cloudbr2": switched("10.12.0.1/24", "storage", uplink="nfs0"),
            "cloudbr3": switched("10.13.0.1/24", "guest"),
        },
        {},
    )
    with zone_of_shape(shape, "zone-openvswitch", SwitchedCloud) as cloud:
        check_template_and_console(cloud, tmp_path)
        assert isinstance(cloud.lab, SwitchedCloud)
        # both system VMs are in two of these networks, the SSVM and the machine in one more each
        ports = {bridge: len(cloud.lab.ports(bridge)) for bridge in shape.labels}
        assert ports == {"cloudbr0": 2 + 1, "cloudbr1": 2, "cloudbr2": 1 + 1, "cloudbr3": 1}


def test_public_and_storage_networks_of_ipv6_alone(tmp_path: Path) -> None:
    web = IPv6Interface("2001:db8:113::10/64")
    shape = ZoneShape(
        {
            "cloudbr0": label("2001:db8:113::1/64", "public"),
            "cloudbr1": label("10.11.0.1/24", "management"),
            "cloudbr2": label("fd00:12::1/64", "storage"),
        },
        {
            # nearly the whole /64: nobody can list its addresses
            "PUBLIC_RANGE": "ip6cidr=2001:db8:113::/64 ip6gateway=2001:db8:113::1 "
            "startipv6=2001:db8:113::100 endipv6=2001:db8:113:0:ffff:ffff:ffff:ffff",
            "STORAGE_RANGE": "ip6cidr=fd00:12::/64 ip6gateway=fd00:12::1 "
            "startipv6=fd00:12::100 endipv6=fd00:12::1ff",
            "STORE": "nfs://[fd00:12::2]/export/secondary",
        },
        ipv6={SOURCE: (web, 80), STORAGE: (IPv6Interface("fd00:12::2/64"), 2049)},
    )
    with zone_of_shape(shape, "zone-ipv6") as cloud:
        url = check_template_and_console(cloud, tmp_path, f"[{web.ip}]")
        assert url.startswith("https://[2001:db8:113::10"), url
        ssvm = cloud.system_vm("secondarystoragevm")
        assert ssvm["publicip"] == ssvm["publicip6address"]
        assert ssvm["storageip"].startswith("fd00:12::")
        # of every program, of which one or the other ends meanwhile: the store is mounted for some of them
        assert "proto=tcp6" in cloud.ssh(ssvm["name"], "grep -hs nfs4 /proc/[0-9]*/mounts | sort -u")
        [own] = cloud.api.listVlanIpRanges(forvirtualnetwork=True)["vlaniprange"]
        assert own["startipv6"] == "2001:db8:113::100"
        # addresses of the zone are refused as sources, as those of IPv4 are
        inside = cloud.wait_settled(cloud.register("inside", f"http://[{ssvm['publicip']}]/x.qcow2")["id"])
        assert not inside["isready"]
