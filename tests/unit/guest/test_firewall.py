# SPDX-License-Identifier: Apache-2.0
"""Sets of the appliance's firewall, from the boot arguments."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.guest import firewall, network
from systemvm.guest.boot_argument_error import BootError
from systemvm.ssvm.fetch.address_policy import AddressPolicy
from systemvm.wire import denied_networks

APPLIANCES = Path(__file__).resolve().parents[3] / "appliances"
ARGUMENTS = {
    "eth0ip": "169.254.3.4",
    "eth0mask": "255.255.0.0",
    "eth1ip": "10.11.0.101",
    "eth1mask": "255.255.255.0",
    "mgmtcidr": "10.11.0.0/16,10.96.0.0/16",
    "eth2ip": "203.0.113.101",
    "eth2mask": "255.255.255.0",
    "eth2ip6": "2001:db8::5",
    "eth2ip6prelen": "64",
    "eth3ip": "10.12.0.100",
    "eth3mask": "255.255.255.0",
    "internaldns1": "203.0.113.10",
    "dns1": "203.0.113.10",
    "ip6dns1": "2001:db8::53",
    "secondaryStorageServerAddress": "10.12.0.2,nfs.example.test,2001:db8:1::2",
}
RULES = """
table inet systemvm
delete table inet systemvm
table inet systemvm {
    set control_cidr { type ipv4_addr; flags interval; }
    set management_cidr {
        type ipv4_addr
    }
    chain input { type filter hook input priority 0; }
}
table ip6 other { set dns_servers6 { type ipv6_addr; } }
"""


def test_sets_contain_merged_networks() -> None:
    found = firewall.sets(network.make_plan(ARGUMENTS), ARGUMENTS)
    found.pop("fetch_denied")
    assert {name: [str(net) for net in networks] for name, networks in found.items()} == {
        "control_cidr": ["169.254.0.0/16"],
        "management_cidr": [
            "10.11.0.0/16",
            "10.96.0.0/16",
        ],  # the NIC's own /24 is inside; nft refuses overlaps
        "fetch_allowed": [],
        "storage_cidr": ["10.12.0.0/24"],
        "nfs_servers": ["10.12.0.2/32", "2001:db8:1::2/128"],  # a name has no address, so it stays closed
        "ntp_servers": [],
        "dns_servers": ["203.0.113.10/32", "2001:db8::53/128"],
    }


@pytest.fixture(scope="module")
def fetch_denied() -> list[IPv4Network | IPv6Network]:
    """Return the networks that the firewall denies to the user of fetch."""
    return firewall.sets(network.make_plan(ARGUMENTS), ARGUMENTS)["fetch_denied"]


@pytest.mark.parametrize(
    "address",
    [
        "2002:a0b:1::", "2001:0:53aa::1", "192.0.0.9", "192.88.99.1", "64:ff9b::7f00:1", "64:ff9b::a0b:1",
        "64:ff9b:1::1", "fec0::1", "127.0.0.1", "10.11.0.1", "10.96.3.4", "10.12.0.2", "169.254.0.1",
        "203.0.113.101", "2001:db8::5", "2001:db8:1::2",
    ],
)  # fmt: skip
def test_fetch_cannot_reach(address: str, fetch_denied: list[IPv4Network | IPv6Network]) -> None:
    assert any(ip_address(address) in net for net in fetch_denied)


NETWORKS = [*(net for net, _ in denied_networks.RESERVED), *denied_networks.zone_networks(ARGUMENTS)]


@st.composite
def addresses(draw: st.DrawFn) -> IPv4Address | IPv6Address:
    """Draw any address, often one at the edge of a denied network or of its NAT64 form."""
    if draw(st.booleans()):
        return draw(st.ip_addresses())
    net = draw(st.sampled_from(NETWORKS))
    if isinstance(net, IPv4Network) and draw(st.booleans()):
        net = denied_networks.nat64_network(net)
    number = draw(st.sampled_from([-1, 0, net.num_addresses - 1, net.num_addresses]))
    number += int(net.network_address)
    kind = type(net.network_address)
    return kind(min(max(number, 0), 2**net.max_prefixlen - 1))


@given(addresses())
def test_the_firewall_and_the_policy_of_fetch_agree(
    fetch_denied: list[IPv4Network | IPv6Network], address: IPv4Address | IPv6Address
) -> None:
    """Both use one table, and the firewall also holds when fetch is compromised."""
    of_zone = denied_networks.zone_networks(ARGUMENTS)
    policy = AddressPolicy.of_zone((str(net), what) for net, what in of_zone.items())
    denied = any(address in net for net in fetch_denied if net.version == address.version)
    assert denied == (policy.why_denied(address) is not None), address


@pytest.mark.parametrize(
    ("sites", "opened"),
    [
        ("10.11.0.50", ["10.11.0.50/32"]),
        ("203.0.113.101,203.0.113.102", ["203.0.113.102/32"]),  # the first is this VM itself
        ("10.96.4.1/24,10.96.4.7", ["10.96.4.0/24"]),
        ("10.12.0.0/30", ["10.12.0.0/31", "10.12.0.3/32"]),  # without the NFS server
        ("169.254.0.0/16,127.0.0.0/8,2001:db8:1::2", []),
        ("0.0.0.0/0,nonsense,::/0,", []),
    ],
)
def test_allowed_sites_open_exactly_what_they_name(sites: str, opened: list[str]) -> None:
    """Invalid ones and everything are skipped, and so is the NFS server, as in CloudStack."""
    arguments = {**ARGUMENTS, "fetch_allowed": sites}
    found = firewall.sets(network.make_plan(arguments), arguments)["fetch_allowed"]
    assert [str(net) for net in found] == opened


@pytest.mark.parametrize(
    ("proxy", "line"),
    [
        ("10.11.0.9:3128", "add element inet systemvm fetch_proxy { 10.11.0.9 . 3128 }"),
        ("[2001:db8::9]:81", "add element inet systemvm fetch_proxy6 { 2001:db8::9 . 81 }"),
        ("proxy.example.test:3128", None),
    ],
)
def test_the_port_of_the_proxy_is_opened(proxy: str, line: str | None) -> None:
    arguments = {**ARGUMENTS, "fetch_proxy": proxy}
    rules = APPLIANCES / "ssvm" / "nftables.conf"
    lines = firewall.script(rules, network.make_plan(ARGUMENTS), arguments).splitlines()
    assert [each for each in lines if "fetch_proxy" in each] == ([line] if line else [])


@pytest.mark.parametrize("proxy", ["127.0.0.1:3128", "169.254.0.1:80", "https://p"])
def test_a_proxy_at_a_reserved_address_is_an_error(proxy: str) -> None:
    with pytest.raises(BootError, match="fetch_proxy="):
        firewall.script(
            APPLIANCES / "ssvm" / "nftables.conf",
            network.make_plan(ARGUMENTS),
            {**ARGUMENTS, "fetch_proxy": proxy},
        )


def test_the_endpoints_of_s3_stores_are_opened_and_nothing_else() -> None:
    rules = APPLIANCES / "ssvm" / "nftables.conf"
    arguments = {**ARGUMENTS, "fetch_stores": "10.12.0.9:8080,[2001:db8::9]:443"}
    lines = firewall.script(rules, network.make_plan(ARGUMENTS), arguments).splitlines()
    assert [each for each in lines if "fetch_stores" in each] == [
        "add element inet systemvm fetch_stores { 10.12.0.9 . 8080 }",
        "add element inet systemvm fetch_stores6 { 2001:db8::9 . 443 }",
    ]
    for wrong in ("127.0.0.1:80", "s3.example.test:443", "10.12.0.9"):
        with pytest.raises(BootError, match="fetch_stores="):
            firewall.script(rules, network.make_plan(ARGUMENTS), {**ARGUMENTS, "fetch_stores": wrong})


def test_only_declared_sets_are_filled_each_in_its_table(tmp_path: Path) -> None:
    rules = tmp_path / "nftables.conf"
    rules.write_text(RULES)
    assert firewall.script(rules, network.make_plan(ARGUMENTS), ARGUMENTS).splitlines() == [
        f'include "{rules}"',
        "add element inet systemvm control_cidr { 169.254.0.0/16 }",
        "add element inet systemvm management_cidr { 10.11.0.0/16, 10.96.0.0/16 }",
        "add element ip6 other dns_servers6 { 2001:db8::53/128 }",
    ]


def test_missing_rules_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(BootError, match=r"firewall rules are missing: .*nftables\.conf"):
        firewall.script(tmp_path / "nftables.conf", network.make_plan(ARGUMENTS), ARGUMENTS)


@pytest.mark.parametrize(
    ("role", "wanted"),
    [
        (
            "ssvm",
            {
                "control_cidr",
                "storage_cidr",
                "nfs_servers",
                "dns_servers",
                "fetch_denied",
                "fetch_denied6",
                "fetch_allowed",
                "fetch_allowed6",
                "fetch_proxy",
                "fetch_proxy6",
                "fetch_stores",
                "fetch_stores6",
            },
        ),
        ("cpvm", {"control_cidr", "management_cidr", "console_hosts", "console_hosts6"}),
    ],
)
def test_the_appliances_declare_sets_that_are_filled(role: str, wanted: set[str]) -> None:
    declared = firewall.declared_sets((APPLIANCES / role / "nftables.conf").read_text())
    assert wanted <= set(declared)
    # these also have a port; the second can be filled while the VM runs
    known = {
        *firewall.sets(network.make_plan(ARGUMENTS), ARGUMENTS),
        "fetch_proxy",
        "fetch_servers",
        "fetch_stores",
        "console_hosts",  # filled by systemvm-console-hosts, while the VM runs
    }
    assert {name.removesuffix("6") for name in declared} <= known, "a set that is never filled"


def test_another_console_port_is_redirected_to_ours(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.write_text("")
    arguments = ARGUMENTS | {"type": "consoleproxy"}

    def script(vncport: str) -> str:
        return firewall.script(rules, network.make_plan(arguments), arguments | {"vncport": vncport})

    assert 'iifname "eth2" tcp dport 8080 redirect to :8443' in script("8080")
    assert "redirect" not in script("8443")
    with pytest.raises(BootError, match="vncport="):
        script("80 accept")
