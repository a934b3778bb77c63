# SPDX-License-Identifier: Apache-2.0
"""The address policy of fetch: denied and allowed sources."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.fetch.address_policy import AddressPolicy
from systemvm.wire import denied_networks

BOOT = {
    "eth0ip": "169.254.10.2", "eth0mask": "255.255.0.0", "eth1ip": "10.11.0.100", "eth1mask": "255.255.255.0",
    "eth2ip": "203.0.113.100", "eth2mask": "255.255.255.0",
    "eth3ip": "10.12.0.100", "eth3mask": "255.255.255.0",
    "fetch_denied": "203.0.113.1/32,2001:db8:7::/120", "mgmtcidr": "172.16.0.0/16,172.17.0.0/16",
    "storageip": "10.12.0.100", "storagenetmask": "255.255.255.0",
    "public.network.device": "eth2", "private.network.device": "eth1", "host": "169.254.0.1",
    "secondaryStorageServerAddress": "10.20.0.5,10.20.0.6,nfs.example", "localgw": "10.11.0.1",
    "eth4ip": "0.0.0.0",
    "eth4mask": "0.0.0.0",
}  # fmt: skip
ZONE = AddressPolicy.of_zone(
    (str(network), what) for network, what in denied_networks.zone_networks(BOOT).items()
)


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("10.11.0.1", "the management network"), ("172.17.3.4", "the management network"),
        ("10.12.0.2", "the storage network"), ("203.0.113.100", "this VM itself"),
        ("10.20.0.6", "a storage server"),
        ("203.0.113.1", denied_networks.OWN_ADDRESS), ("2001:db8:7::9", denied_networks.OWN_ADDRESS),
        ("64:ff9b::cb00:7101", denied_networks.OWN_ADDRESS),
        ("169.254.0.1", "link-local"), ("127.8.8.8", "loopback"),
        ("64:ff9b::a0b:1", "the management network"),
    ],
)  # fmt: skip
def test_networks_of_the_zone_are_denied(address: str, what: str) -> None:
    assert ZONE.why_denied(ip_address(address)) == what


@pytest.mark.parametrize(
    "address",
    ["203.0.113.10", "10.13.0.1", "192.168.7.7", "8.8.8.8", "2001:db8::1", "fd00::1", "64:ff9b::808:808"],
)
def test_other_addresses_are_allowed(address: str) -> None:
    assert ZONE.why_denied(ip_address(address)) is None


@pytest.mark.parametrize(
    "address",
    [
        "::ffff:8.8.8.8",
        "::8.8.8.8",
        "2002:808:808::",
        "2001::1",
        "fec0::1",
        "ff0e::1",
        "100::1",
        "fe80::1%eth0",
    ],
)
def test_embedded_addresses_are_denied(address: str) -> None:
    assert AddressPolicy().why_denied(ip_address(address)) is not None


def test_an_invalid_rule_allows_nothing() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        AddressPolicy.of_zone([("10.0.0.0/33", "x")])


@given(st.ip_addresses(v=4, network="10.11.0.0/24"))
def test_a_network_is_denied_as_a_whole(address: object) -> None:
    assert ZONE.why_denied(address) is not None  # type: ignore[arg-type]
