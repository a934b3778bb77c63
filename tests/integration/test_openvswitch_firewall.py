# SPDX-License-Identifier: Apache-2.0
"""The host's firewall with bridges of Open vSwitch: the tests of Linux bridges, on another host."""

from __future__ import annotations

import pytest

from integration.openvswitch_lab import host
from integration.test_network_firewall import (
    test_each_bridge_reaches_its_own_address_and_no_other,
    test_nothing_is_forwarded_between_bridges_even_when_the_host_routes,
    test_vnc_is_open_only_for_an_admitted_console_proxy,
)

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

__all__ = [
    "host",  # the fixture
    "test_each_bridge_reaches_its_own_address_and_no_other",
    "test_nothing_is_forwarded_between_bridges_even_when_the_host_routes",
    "test_vnc_is_open_only_for_an_admitted_console_proxy",
]
