# SPDX-License-Identifier: Apache-2.0
"""Boot arguments as CloudStack's: keys, order, and values that the guest reads back whole."""

from __future__ import annotations

import base64

import pytest_twisted

from systemvm.management.state import instances
from systemvm.wire import boot


@pytest_twisted.ensureDeferred
async def test_an_ssvm_is_told_all_of_reference_1_3(world) -> None:
    await world.keeper.scan()
    spec = world.hypervisor.specs["s-1-VM"]
    text = spec.credentials[boot.CMDLINE_CREDENTIAL].decode()
    arguments = boot.parse(text)
    assert text.startswith(
        "template=domP type=secstorage host=169.254.0.1 port=8250 name=s-1-VM zone=1 pod=1 "
    )
    control = arguments["eth0ip"]
    assert control.startswith("169.254.")
    assert spec.nics[0].mac == "0e:00:" + bytes(map(int, control.split("."))).hex(":")
    expected = {
        "guid": "s-1-VM",
        "role": "templateProcessor",
        "mtu": "1500",
        "eth0mask": "255.255.0.0",
        "eth1ip": "10.11.0.100",
        "eth1mask": "255.255.255.0",
        "eth2ip": "203.0.113.100",
        "eth3ip": "10.12.0.100",
        "storageip": "10.12.0.100",
        "storagenetmask": "255.255.255.0",
        "gateway": "203.0.113.1",
        "mgmtcidr": "10.11.0.0/24",
        "localgw": "10.11.0.1",
        "private.network.device": "eth1",
        "public.network.device": "eth2",
        "internaldns1": "203.0.113.10",
        "dns1": "203.0.113.10",
        "nfsVersion": "4.2",
        "secondaryStorageServerAddress": "10.12.0.2",
    }
    assert {key: arguments.get(key) for key in expected} == expected
    assert base64.b64decode(arguments["authorized_key"]) == b"ssh-ed25519 AAAA systemvm"
    assert arguments["nic_macs"].split("|") == [nic.mac for nic in spec.nics]
    assert not boot.SECRET_KEYS & set(arguments)


@pytest_twisted.ensureDeferred
async def test_a_cpvm_is_told_all_of_reference_1_4(world) -> None:
    await world.keeper.scan()
    spec = world.hypervisor.specs["v-2-VM"]
    arguments = boot.parse(spec.credentials[boot.CMDLINE_CREDENTIAL].decode())
    expected = {
        "type": "consoleproxy",
        "guid": "Proxy.2",
        "proxy_vm": "2",
        "premium": "true",
        "vncport": "8443",
        "eth1ip": "10.11.0.101",
        "eth2ip": "203.0.113.101",
    }
    assert {key: arguments.get(key) for key in expected} == expected
    assert "eth3ip" not in arguments
    assert [nic.traffic_type for nic in spec.nics] == ["control", "management", "public"]


@pytest_twisted.ensureDeferred
async def test_rows_say_what_the_guest_is_told(world) -> None:
    await world.keeper.scan()
    vm = await world.database.read(instances.by_instance_name, "s-1-VM")
    nics = await world.database.read(instances.nics_of, vm.id)
    assert [(nic.device, nic.traffic_type, nic.bridge) for nic in nics] == [
        (0, "control", "cloud0"),
        (1, "management", "cloudbr1"),
        (2, "public", "cloudbr0"),
        (3, "storage", "cloudbr2"),
    ]
    assert nics[0].gateway is None
    assert nics[2].gateway == "203.0.113.1"


@pytest_twisted.ensureDeferred
async def test_the_guest_understands_its_network(world) -> None:
    """Both ends of the same text: the guest's own reader plans four NICs and a default route."""
    from systemvm.guest.network import plan

    await world.keeper.scan()
    text = world.hypervisor.specs["s-1-VM"].credentials[boot.CMDLINE_CREDENTIAL].decode()
    planned = plan(boot.parse(text))
    assert [nic.device for nic in planned.interfaces] == ["eth0", "eth1", "eth2", "eth3"]
    assert [str(route.gateway) for route in planned.routes] == ["203.0.113.1"]
