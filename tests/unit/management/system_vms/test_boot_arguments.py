# SPDX-License-Identifier: Apache-2.0
"""Boot arguments have CloudStack's keys and order, and the guest parses them."""

from __future__ import annotations

import base64
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import pytest_twisted

from systemvm.host.config_file import load, to_yaml
from systemvm.host.zone import ZoneConfig
from systemvm.management.config import ControlConfig
from systemvm.management.state import instances
from systemvm.management.state.instances import Instance, Nic
from systemvm.management.state.status import InstanceType
from systemvm.management.system_vms.boot_arguments import BootFacts, cmdline
from systemvm.wire import boot_arguments


@pytest_twisted.ensureDeferred
async def test_ssvm_gets_all_arguments_of_reference_1_3(host: Any) -> None:
    await host.reconciler.scan()
    spec = host.hypervisor.specs["s-1-VM"]
    text = spec.credentials[boot_arguments.CMDLINE_CREDENTIAL].decode()
    arguments = boot_arguments.parse(text)
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
    assert not boot_arguments.SECRET_KEYS & set(arguments)


@pytest_twisted.ensureDeferred
async def test_cpvm_gets_all_arguments_of_reference_1_4(host: Any) -> None:
    await host.reconciler.scan()
    spec = host.hypervisor.specs["v-2-VM"]
    arguments = boot_arguments.parse(spec.credentials[boot_arguments.CMDLINE_CREDENTIAL].decode())
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
async def test_rows_match_the_boot_arguments(host: Any) -> None:
    await host.reconciler.scan()
    vm = await host.database.read(instances.by_instance_name, "s-1-VM")
    nics = await host.database.read(instances.nics_of, vm.id)
    assert [(nic.device, nic.traffic_type, nic.bridge) for nic in nics] == [
        (0, "control", "cloud0"),
        (1, "management", "cloudbr1"),
        (2, "public", "cloudbr0"),
        (3, "storage", "cloudbr2"),
    ]
    assert nics[0].gateway is None
    assert nics[2].gateway == "203.0.113.1"


@pytest_twisted.ensureDeferred
async def test_guest_parses_its_network(host: Any) -> None:
    from systemvm.guest.network import make_plan

    await host.reconciler.scan()
    text = host.hypervisor.specs["s-1-VM"].credentials[boot_arguments.CMDLINE_CREDENTIAL].decode()
    planned = make_plan(boot_arguments.parse(text))
    assert [nic.device for nic in planned.interfaces] == ["eth0", "eth1", "eth2", "eth3"]
    assert [str(route.gateway) for route in planned.routes] == ["203.0.113.1"]


def test_each_nic_on_an_ipv6_network_has_an_ipv6_address(zone: ZoneConfig, tmp_path: Path) -> None:
    assert zone.networks.public is not None
    public = msgspec.structs.replace(
        zone.networks.public, cidr6=IPv6Network("2001:db8:2::/64"), gateway6=IPv6Address("fe80::1")
    )
    with_ipv6 = msgspec.structs.replace(
        zone,
        networks=msgspec.structs.replace(zone.networks, public=public),
        dns6=[IPv6Address("2001:db8:2::53")],
        ntp_servers=["ntp.example", "192.0.2.1"],
    )
    path = tmp_path / "zone.yaml"
    path.write_text(to_yaml(with_ipv6))
    assert load(path, ZoneConfig) == with_ipv6
    own = public.address6(IPv4Address("203.0.113.100"))
    assert own is not None
    assert str(own) == "2001:db8:2::cb00:7164/64"
    assert zone.networks.public.address6(IPv4Address("203.0.113.100")) is None
    nics = [
        nic("control", 0, "169.254.1.2"),
        nic("management", 1, "10.11.0.100"),
        nic("public", 2, "203.0.113.100"),
    ]
    vm = cast(Instance, SimpleNamespace(id=2, type=InstanceType.CONSOLE_PROXY, instance_name="v-2-VM"))
    control = ControlConfig()
    arguments = boot_arguments.parse(cmdline(vm, nics, BootFacts(with_ipv6, 1, control, "ssh-ed25519 AAAA")))
    expected = {
        "eth2ip6": "2001:db8:2::cb00:7164",
        "eth2ip6prelen": "64",
        "ip6gateway": "fe80::1",
        "ip6dns1": "2001:db8:2::53",
        "ntpserverlist": "ntp.example,192.0.2.1",
    }
    assert {key: arguments.get(key) for key in expected} == expected
    plain = boot_arguments.parse(cmdline(vm, nics, BootFacts(zone, 1, control, "ssh-ed25519 AAAA")))
    assert not expected.keys() & plain.keys()


@pytest.mark.parametrize(
    ("origin", "port"),
    [
        ("https://*:8443", "8443"),
        ("https://*.console.example.test", "443"),
        ("https://console.example.test", "8443"),  # somebody else's forwarder leads to the CPVM
    ],
)
def test_consoles_have_the_advertised_port_where_browsers_reach_the_cpvm_itself(
    zone: ZoneConfig, origin: str, port: str
) -> None:
    named = msgspec.structs.replace(zone, console=msgspec.structs.replace(zone.console, origin=origin))
    nics = [
        nic("control", 0, "169.254.1.2"),
        nic("management", 1, "10.11.0.100"),
        nic("public", 2, "203.0.113.100"),
    ]
    vm = cast(Instance, SimpleNamespace(id=2, type=InstanceType.CONSOLE_PROXY, instance_name="v-2-VM"))
    text = cmdline(vm, nics, BootFacts(named, 1, ControlConfig(), "ssh-ed25519 AAAA"))
    assert boot_arguments.parse(text)["vncport"] == port


def nic(traffic: str, device: int, address: str) -> Nic:
    about = {"traffic_type": traffic, "device": device, "address": address, "netmask": "255.255.255.0"}
    return cast(
        Nic,
        SimpleNamespace(**about, gateway=None, address6=None, gateway6=None, mac=f"02:00:00:00:00:0{device}"),
    )


@pytest.mark.parametrize(
    ("cidr6", "gateway6", "message"),
    [("2001:db8::/112", None, "prefix is /96"), ("2001:db8::/64", "2001:db9::1", "outside of its network")],
)
def test_invalid_ipv6_network_is_rejected(
    zone: ZoneConfig, cidr6: str, gateway6: str | None, message: str
) -> None:
    assert zone.networks.public is not None
    gateway = IPv6Address(gateway6) if gateway6 else None
    with pytest.raises(ValueError, match=message):
        msgspec.structs.replace(zone.networks.public, cidr6=IPv6Network(cidr6), gateway6=gateway)


def test_what_is_opened_for_downloads_is_told_to_ssvms_without_a_login(zone: ZoneConfig) -> None:
    opened = msgspec.structs.replace(
        zone,
        secstorage_proxy="http://me:secret@10.11.0.9",
        allowed_internal_sites=["10.11.0.50", "10.11.4.0/24"],
    )
    nics = [
        nic("control", 0, "169.254.1.2"),
        nic("management", 1, "10.11.0.100"),
        nic("public", 2, "203.0.113.100"),
    ]
    texts = {}
    for kind, name in ((InstanceType.SECONDARY_STORAGE, "s-1-VM"), (InstanceType.CONSOLE_PROXY, "v-2-VM")):
        vm = cast(Instance, SimpleNamespace(id=2, type=kind, instance_name=name))
        texts[kind] = cmdline(vm, nics, BootFacts(opened, 1, ControlConfig(), "ssh-ed25519 AAAA"))
    arguments = boot_arguments.parse(texts[InstanceType.SECONDARY_STORAGE])
    assert arguments["fetch_allowed"] == "10.11.0.50,10.11.4.0/24"
    assert arguments["fetch_proxy"] == "10.11.0.9:3128"
    assert "secret" not in texts[InstanceType.SECONDARY_STORAGE]
    assert "fetch_" not in texts[InstanceType.CONSOLE_PROXY]


@pytest.mark.parametrize(
    "wrong", [{"secstorage_proxy": "https://p"}, {"allowed_internal_sites": ["0.0.0.0/0"]}]
)
def test_what_would_open_everything_or_nothing_is_refused(zone: ZoneConfig, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"proxy|allowed_internal_sites"):
        msgspec.structs.replace(zone, **wrong)
