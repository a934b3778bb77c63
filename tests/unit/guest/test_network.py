# SPDX-License-Identifier: Apache-2.0
"""The network plan: a pure function of the boot arguments."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssvm_boot import NICS
from systemvm.guest import network
from systemvm.guest.boot_argument_error import BootError
from systemvm.wire.boot_failure import BootFailure

SSVM = {
    **NICS,
    "internaldns1": "10.11.0.53",
    "dns1": "203.0.113.10",
}


def test_a_secondary_storage_vm_has_four_nics() -> None:
    plan = network.make_plan(SSVM)
    assert plan.ip_batch().splitlines() == [
        "link set dev lo up",
        "address flush dev eth0 scope global",
        "address replace 169.254.3.4/16 dev eth0 broadcast +",
        "link set dev eth0 up",
        "address flush dev eth1 scope global",
        "address replace 10.11.0.101/24 dev eth1 broadcast +",
        "link set dev eth1 up",
        "address flush dev eth2 scope global",
        "address replace 203.0.113.101/24 dev eth2 broadcast +",
        "link set dev eth2 up",
        "address flush dev eth3 scope global",
        "address replace 10.12.0.100/24 dev eth3 broadcast +",
        "link set dev eth3 up",
        "route replace default via 203.0.113.1 dev eth2",
        # not for 10.11.0.0/24, which is on the link
        "route replace 10.96.0.0/16 via 10.11.0.1 dev eth1",
    ]
    assert plan.name_servers == (ip_address("10.11.0.53"), ip_address("203.0.113.10"))
    nics = (plan.control, plan.management, plan.public, plan.storage)
    assert [nic.device for nic in nics if nic] == ["eth0", "eth1", "eth2", "eth3"]


def test_storage_keys_describe_eth3() -> None:
    arguments = {key: value for key, value in SSVM.items() if not key.startswith("eth3")}
    arguments |= {"storageip": "10.12.0.7", "storagenetmask": "255.255.0.0", "mtu": "9000"}
    plan = network.make_plan(arguments)
    assert plan.storage is not None
    assert (plan.storage.device, str(plan.storage.addresses[0])) == ("eth3", "10.12.0.7/16")
    assert "link set dev eth3 mtu 9000 up" in plan.ip_batch()
    with pytest.raises(BootError, match=r"storageip=10\.12\.0\.7 and eth3ip=10\.12\.0\.100 differ"):
        network.make_plan(SSVM | {"storageip": "10.12.0.7", "storagenetmask": "255.255.0.0"})


def test_without_a_storage_nic_management_carries_storage() -> None:
    arguments = {key: value for key, value in SSVM.items() if not key.startswith("eth3")}
    plan = network.make_plan(arguments | {"mtu": "1400", "publicMtu": "1450"})
    assert plan.storage is plan.management
    assert "link set dev eth1 mtu 1400 up" in plan.ip_batch()
    assert "link set dev eth2 mtu 1450 up" in plan.ip_batch()


def test_the_boot_arguments_can_name_other_devices() -> None:
    arguments = SSVM | {"private.network.device": "eth2", "public.network.device": "eth1"}
    arguments |= {"gateway": "10.11.0.1", "localgw": "203.0.113.1"}
    routes = network.make_plan(arguments).routes
    assert [(str(route.destination), route.device) for route in routes] == [
        ("None", "eth1"),
        ("10.11.0.0/24", "eth2"),
        ("10.96.0.0/16", "eth2"),
    ]


def test_a_nic_without_an_address_is_only_set_up() -> None:
    plan = network.make_plan(SSVM | {"eth4ip": "0.0.0.0", "eth4mask": "0.0.0.0"})
    lines = [line for line in plan.ip_batch().splitlines() if "eth4" in line]
    assert lines == ["address flush dev eth4 scope global", "link set dev eth4 up"]


def test_nics_have_addresses_of_both_families() -> None:
    plan = network.make_plan(
        SSVM
        | {
            "eth2ip6": "2001:db8::5",
            "eth2ip6prelen": "64",
            "ip6gateway": "fe80::1",
            "ip6dns1": "2001:db8::53",
        }
    )
    assert "address replace 2001:db8::5/64 dev eth2 nodad" in plan.ip_batch()
    assert "route replace default via fe80::1 dev eth2" in plan.ip_batch()
    assert plan.name_servers[-1] == ip_address("2001:db8::53")


def test_more_than_nine_nics_keep_their_numbers() -> None:
    plan = network.make_plan(SSVM | {"eth10ip": "10.20.0.2", "eth10mask": "255.255.255.0"})
    assert [nic.device for nic in plan.interfaces] == ["eth0", "eth1", "eth2", "eth3", "eth10"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eth1ip": "10.11.0.300"}, "eth1ip=10.11.0.300"),
        ({"eth1ip": "host"}, "eth1ip=host"),
        ({"eth1ip": "2001:db8::1", "eth1mask": "64"}, "eth1ip=2001:db8::1 is not an IPv4 address"),
        ({"eth1mask": "255.0.255.0"}, "eth1mask=255.0.255.0"),
        ({"eth1mask": "0.0.0.255"}, "eth1mask=0.0.0.255 is not a netmask"),
        ({"eth1mask": ""}, "eth1mask= is missing for eth1ip=10.11.0.101"),
        ({"eth1ip": "10.11.0.255"}, "broadcast"),
        ({"eth1ip": "10.11.0.0"}, "network or broadcast address"),
        (
            {"gateway": "198.51.100.1"},
            r"gateway=198.51.100.1 is not on the public network \(eth2 203.0.113.0/24\)",
        ),
        ({"gateway": "x"}, "gateway='x' is not an address"),
        ({"localgw": "203.0.113.1"}, "localgw=203.0.113.1 is not on the management network of eth1"),
        ({"mgmtcidr": "10.0.0.0/33"}, "mgmtcidr=10.0.0.0/33"),
        ({"dns1": "a.b"}, "dns1='a.b' is not an address"),
        ({"mtu": "100"}, "mtu='100' is not an MTU"),
        ({"mtu": "big"}, "mtu='big' is not an MTU"),
        ({"mtu": "²"}, "is not an MTU"),
        ({"private.network.device": "eth1; reboot"}, "is not a device"),
        ({"public.network.device": "ens4"}, "is not a device"),
        ({"eth2ip6": "2001:db8::1", "eth2ip6prelen": "200"}, "eth2ip6=2001:db8::1 eth2ip6prelen=200"),
    ],
)
def test_a_wrong_boot_argument_is_an_error_that_names_it(change: dict[str, str], message: str) -> None:
    with pytest.raises(BootError, match=message) as error:
        network.make_plan(SSVM | change)
    assert error.value.code is BootFailure.BAD_BOOT_ARGUMENTS


def test_a_missing_control_nic_is_an_error() -> None:
    with pytest.raises(BootError, match="eth0ip= is missing"):
        network.make_plan({key: value for key, value in SSVM.items() if not key.startswith("eth0")})


def test_an_absent_nic_is_an_error_at_once() -> None:
    plan = network.make_plan(SSVM)
    present = {"lo": "", "eth0": "0e:00:a9:fe:03:04", "eth1": "x", "eth2": "y"}
    with pytest.raises(BootError, match="eth3 of the boot arguments does not exist") as error:
        plan.check_devices(present)
    assert error.value.code is BootFailure.NIC_ABSENT
    assert "eth0, eth1, eth2" in error.value.message
    plan.check_devices(present | {"eth3": "z"})


def test_a_wrong_mac_is_an_error() -> None:
    plan = network.make_plan(SSVM | {"nic_macs": "0E:00:A9:FE:03:04|1e:00:00:00:00:01"})
    present = {f"eth{n}": mac for n, mac in enumerate(("0e:00:a9:fe:03:04", "1e:00:00:00:00:02", "", ""))}
    with pytest.raises(
        BootError, match="eth1 has MAC 1e:00:00:00:00:02, but nic_macs= contains 1e:00:00:00:00:01"
    ):
        plan.check_devices(present)
    plan.check_devices(present | {"eth1": "1e:00:00:00:00:01"})


@given(st.ip_addresses(v=4), st.integers(1, 30), st.text(max_size=8))
def test_invalid_values_cannot_add_commands(address: IPv4Address, length: int, noise: str) -> None:
    """A value that is not an address never reaches `ip`."""
    arguments = {
        "eth0ip": str(address),
        "eth0mask": str(length),
        "gateway": noise,
        "mgmtcidr": noise,
        "mtu": noise,
    }
    try:
        plan = network.make_plan(arguments)
    except BootError:
        return
    for line in plan.ip_batch().splitlines():
        assert line.split()[0] in ("link", "address", "route")
        assert line.isprintable()
    assert (
        ip_network(f"{address}/{length}", strict=False) in plan.control.networks()
        or not plan.control.addresses
    )


def test_a_public_nic_can_have_only_ipv6() -> None:
    arguments = SSVM | {
        "eth2ip": "0.0.0.0",
        "eth2mask": "0.0.0.0",
        "eth2ip6": "2001:db8:2::5",
        "eth2ip6prelen": "64",
        "ip6gateway": "fe80::1",
        "ip6dns1": "2001:db8:2::53",
    }
    del arguments["gateway"]
    plan = network.make_plan(arguments)
    batch = plan.ip_batch()
    assert "address replace 2001:db8:2::5/64 dev eth2 nodad" in batch
    assert "route replace default via fe80::1 dev eth2" in batch
    assert ip_address("2001:db8:2::53") in plan.name_servers


def test_nics_are_renamed_into_the_order_of_nic_macs() -> None:
    macs = {"eth0": "0e:00:a9:fe:03:04", "eth1": "02:00:00:00:00:01", "eth2": "02:00:00:00:00:02"}
    arguments = {key: value for key, value in SSVM.items() if not key.startswith(("eth3", "storage"))}
    plan = network.make_plan(arguments | {"nic_macs": "|".join(macs.values())})
    assert plan.renaming(macs) == ""
    present = {"lo": "", "eth0": macs["eth1"], "eth1": macs["eth0"].upper(), "eth5": macs["eth2"]}
    assert sorted(plan.renaming(present).splitlines()[:3]) == [
        f"link set dev {device} name was-{device}" for device in ("eth0", "eth1", "eth5")
    ]
    assert sorted(plan.renaming(present).splitlines()[3:]) == [
        "link set dev was-eth0 name eth1",
        "link set dev was-eth1 name eth0",
        "link set dev was-eth5 name eth2",
    ]  # fmt: skip
    # an unknown NIC that has one of these names gets a free one
    unknown_nic = {
        "eth0": macs["eth0"],
        "eth1": macs["eth1"],
        "eth2": "02:00:00:00:00:99",
        "eth7": macs["eth2"],
    }
    assert plan.renaming(unknown_nic).splitlines() == [
        "link set dev eth7 name was-eth7", "link set dev eth2 name was-eth2",
        "link set dev was-eth7 name eth2", "link set dev was-eth2 name eth7",
    ]  # fmt: skip
    with pytest.raises(BootError, match="nic_macs= contains"):
        plan.check_devices(macs | {"eth2": "02:00:00:00:00:77"})


def test_dhcp_is_refused_for_a_nic_without_an_address() -> None:
    network.make_plan(SSVM | {"bootproto": "dhcp"})
    with pytest.raises(BootError, match="bootproto=dhcp is not supported: eth2 has no address"):
        network.make_plan(SSVM | {"bootproto": "dhcp", "eth2ip": "0.0.0.0", "eth2mask": "0.0.0.0"})


def test_stores_daemons_and_name_servers_behind_a_router_have_routes() -> None:
    arguments = SSVM | {
        "storagegateway": "10.12.0.1",
        "storagecidr": "10.12.0.0/24,10.22.0.0/16",
        "secondaryStorageServerAddress": "10.12.0.2,10.99.0.2,nas.example",
        "host": "10.50.0.9,169.254.0.1",
        "internaldns1": "10.60.0.53",
    }
    batch = network.make_plan(arguments).ip_batch().splitlines()
    assert {line for line in batch if line.startswith("route replace 10")} == {
        "route replace 10.96.0.0/16 via 10.11.0.1 dev eth1",
        "route replace 10.50.0.9/32 via 10.11.0.1 dev eth1",
        "route replace 10.60.0.53/32 via 10.11.0.1 dev eth1",
        "route replace 10.22.0.0/16 via 10.12.0.1 dev eth3",
        "route replace 10.99.0.2/32 via 10.12.0.1 dev eth3",
    }


def test_defaultroute_and_useextdns_are_obeyed() -> None:
    plan = network.make_plan(SSVM | {"defaultroute": "false", "useextdns": "true"})
    assert not [route for route in plan.routes if route.destination is None]
    assert plan.name_servers == (ip_address("203.0.113.10"), ip_address("10.11.0.53"))
