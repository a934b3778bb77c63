# SPDX-License-Identifier: Apache-2.0
"""The files /etc/hosts and /etc/resolv.conf."""

from __future__ import annotations

import pytest

from systemvm.guest import name_resolution, network
from systemvm.guest.boot_argument_error import BootError

ARGUMENTS = {
    "eth0ip": "169.254.3.4",
    "eth0mask": "255.255.0.0",
    "dns1": "203.0.113.10",
    "internaldns1": "10.11.0.53",
    "domain": "cs1.example.test",
}
PUBLIC = {"eth2ip": "203.0.113.101", "eth2mask": "255.255.255.0"}


def test_internal_servers_come_first() -> None:
    text = name_resolution.resolv_conf(network.make_plan(ARGUMENTS), ARGUMENTS)
    assert text.splitlines() == [
        "nameserver 10.11.0.53",
        "nameserver 203.0.113.10",
        "search cs1.example.test",
        "options timeout:2 attempts:2",
    ]


def test_a_domain_with_a_newline_is_refused() -> None:
    with pytest.raises(BootError, match="is not a domain name"):
        name_resolution.resolv_conf(network.make_plan(ARGUMENTS), ARGUMENTS | {"domain": "x\nnameserver"})


def test_the_name_resolves_to_the_public_address() -> None:
    assert (
        name_resolution.hosts("s-1-VM", network.make_plan(ARGUMENTS | PUBLIC)).splitlines()[-1]
        == "203.0.113.101 s-1-VM"
    )
    assert (
        name_resolution.hosts("s-1-VM", network.make_plan(ARGUMENTS)).splitlines()[-1] == "169.254.3.4 s-1-VM"
    )
