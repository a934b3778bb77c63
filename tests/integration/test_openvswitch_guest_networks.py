# SPDX-License-Identifier: Apache-2.0
"""DHCP, DNS and metadata on a bridge of Open vSwitch: the tests of Linux bridges, with a real tap."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from integration import openvswitch_lab
from integration.guest_client import GuestClient
from integration.guest_machine import BRIDGE, services
from integration.network_lab import sh
from integration.openvswitch_lab import OpenVSwitchHost, host
from integration.test_guest_networks import (
    MAC,
    PORT,
    WEB,
    put_data,
    serve,
    test_a_machine_gets_its_own_address_and_a_stranger_none,
    test_a_machine_gets_its_own_data_and_no_other,
    test_names_of_machines_and_of_the_metadata_service_are_answered,
)
from systemvm.host.guest_services import GuestData
from systemvm.lab.children import ChildProcess

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

__all__ = [
    "host",  # the fixtures
    "services",
    "test_a_machine_gets_its_own_address_and_a_stranger_none",
    "test_a_machine_gets_its_own_data_and_no_other",
    "test_names_of_machines_and_of_the_metadata_service_are_answered",
]


@pytest.fixture(scope="module")
def machine(host: OpenVSwitchHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestClient]:
    with openvswitch_lab.machine(host, PORT, BRIDGE, "10.13.0.50/24") as made:
        sh("ip", "-n", made.name, "link", "set", "lo", "up")
        yield GuestClient(made.name, tmp_path_factory.mktemp("machine"))


def test_the_common_address_of_metadata_is_answered(
    host: OpenVSwitchHost, services: ChildProcess, machine: GuestClient
) -> None:
    """The kernel sees a request twice: at the tap's own bridge, too."""
    assert serve(host, WEB) == "{}"
    put_data(host, WEB, GuestData({"instance-id": "of web"}))
    assert machine.lease(MAC)["staticroutes"].startswith("169.254.169.254/32 10.13.0.1")
    sh("ip", "-n", machine.name, "route", "replace", "169.254.169.254", "via", "10.13.0.1")
    path = "/latest/meta-data/instance-id"
    assert machine.get(path, address="169.254.169.254") == (200, "of web")
