# SPDX-License-Identifier: Apache-2.0
"""Parameters of ranges of IPv6: what is read, and what is refused by its name."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest

from systemvm.management.zone_model.refusals import ModelError
from systemvm.management.zone_model.subnets import read_address, read_subnet
from systemvm.management.zone_model.subnets6 import read_subnet6, with_ipv6

CIDR, GATEWAY, FIRST, LAST = "2001:db8:1::/64", "2001:db8:1::1", "2001:db8:1::100", "2001:db8:1::1ff"


def test_a_range_of_ipv6_alone_has_its_own_ends() -> None:
    subnet = read_subnet6(CIDR, "fe80::1", FIRST, "2001:DB8:1:0:ffff:ffff:ffff:ffff")
    assert subnet.cidr == IPv6Network(CIDR)
    assert subnet.spans == [(IPv6Address(FIRST), IPv6Address("2001:db8:1:0:ffff:ffff:ffff:ffff"))]
    assert subnet.columns["last"] == "2001:db8:1:0:ffff:ffff:ffff:ffff"
    assert read_subnet6(CIDR, GATEWAY, FIRST, None).last == IPv6Address(FIRST)
    assert read_subnet6(CIDR, GATEWAY, None, None).spans == []


@pytest.mark.parametrize(
    ("values", "parameter"),
    [
        (("10.0.0.0/8", GATEWAY, FIRST, LAST), "ip6cidr"),
        (("2001:db8:1::5/64", GATEWAY, FIRST, LAST), "ip6cidr"),
        (("2001:db8:1::/127", GATEWAY, None, None), "ip6cidr"),
        (("::/0", GATEWAY, FIRST, LAST), "ip6cidr"),
        (("fe80::/64", "fe80::1", "fe80::2", None), "ip6cidr"),
        (("ff02::/64", "fe80::1", "ff02::2", None), "ip6cidr"),
        ((CIDR, "10.0.0.1", FIRST, LAST), "ip6gateway"),
        ((CIDR, "2001:db8:2::1", FIRST, LAST), "ip6gateway"),
        ((CIDR, "fe80::1%eth2", FIRST, LAST), "ip6gateway"),
        ((CIDR, GATEWAY, "10.0.0.5", LAST), "startipv6"),
        ((CIDR, GATEWAY, "2001:db8:1::", LAST), "startipv6"),  # of all routers
        ((CIDR, GATEWAY, "2001:db8:2::5", LAST), "startipv6"),
        ((CIDR, GATEWAY, "2001:db8:1::1", LAST), "startipv6"),  # contains the gateway
        ((CIDR, GATEWAY, None, LAST), "startipv6"),
        ((CIDR, GATEWAY, "2001:db8:1::5%1", LAST), "startipv6"),
        ((CIDR, GATEWAY, LAST, FIRST), "endipv6"),
        ((CIDR, GATEWAY, FIRST, "fe80::5"), "endipv6"),
    ],
)
def test_wrong_values_are_refused_by_their_parameter(
    values: tuple[str, str, str | None, str | None], parameter: str
) -> None:
    with pytest.raises(ModelError) as caught:
        read_subnet6(*values)
    assert caught.value.message.startswith(f"{parameter}: ")
    assert caught.value.hint


def test_beside_ipv4_the_last_32_bits_are_the_ipv4_address() -> None:
    plain = read_subnet("203.0.113.1", "255.255.255.0", "203.0.113.100", "203.0.113.199")
    assert with_ipv6(plain, None, None, None, None) == plain
    both = with_ipv6(plain, CIDR, None, None, None)
    assert both.spans == [
        (IPv4Address("203.0.113.100"), IPv4Address("203.0.113.199")),
        (IPv6Address("2001:db8:1::cb00:7164"), IPv6Address("2001:db8:1::cb00:71c7")),
    ]
    # a client can send back what it was shown
    assert with_ipv6(plain, CIDR, None, "2001:db8:1::cb00:7164", "2001:db8:1::cb00:71c7") == both
    for values, parameter in (
        ((CIDR, None, FIRST, None), "startipv6"),
        ((CIDR, None, None, LAST), "endipv6"),
        (("2001:db8:1::/112", None, None, None), "ip6cidr"),
        ((None, GATEWAY, None, None), "ip6gateway"),
        ((None, None, FIRST, None), "startipv6"),
    ):
        with pytest.raises(ModelError, match=f"^{parameter}: "):
            with_ipv6(plain, *values)


def test_ipv6_in_a_parameter_of_ipv4_is_refused_with_the_right_ones() -> None:
    with pytest.raises(ModelError, match="is not an IPv4 address") as caught:
        read_address("gateway", GATEWAY)
    assert "ip6gateway" in caught.value.hint
