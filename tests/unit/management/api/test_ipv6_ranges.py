# SPDX-License-Identifier: Apache-2.0
"""Ranges of IPv6 alone and of both families: made, listed, changed, counted, or refused by a parameter."""

from __future__ import annotations

from typing import Any

import pytest_twisted

from model_commands import job, refused
from small_cloud import SmallCloud
from systemvm.host.bridges import HostNetwork
from systemvm.host.zone import TrafficType
from systemvm.management.state import addresses
from systemvm.management.state.address_ranges import MAX_TOTAL, list_ranges

ALONE = {
    "ip6cidr": "2001:db8:1::/64",
    "ip6gateway": "fe80::1",
    "startipv6": "2001:db8:1::100",
    "endipv6": "2001:db8:1:0:ffff:ffff:ffff:ffff",
}
PUBLIC = {"gateway": "198.51.100.1", "netmask": "255.255.255.0"}


async def add(cloud: SmallCloud, **parameters: Any) -> dict[str, Any]:
    added = await cloud.call("createVlanIpRange", zoneid=cloud.zone.uuid, **parameters)
    return dict(added["vlan"])


@pytest_twisted.ensureDeferred
async def test_a_range_of_ipv6_alone_is_listed_with_the_keys_of_ipv6_only(cloud: SmallCloud) -> None:
    added = await add(cloud, **ALONE)
    assert {key: added[key] for key in ALONE} == ALONE
    assert not {"gateway", "netmask", "cidr", "startip", "endip"} & added.keys()
    assert added in (await cloud.call("listVlanIpRanges"))["vlaniprange"]
    seen = cloud.configuration.zone("zone1").networks.public
    assert seen is not None and str(seen.cidr) == "203.0.113.0/24"  # the first one with IPv4
    shrunk = await cloud.call("updateVlanIpRange", id=added["id"], endipv6="2001:db8:1::1ff")
    assert (shrunk["vlan"]["startipv6"], shrunk["vlan"]["endipv6"]) == (
        "2001:db8:1::100",
        "2001:db8:1::1ff",
    )
    mixed = await refused(cloud, "updateVlanIpRange", id=added["id"], startip="203.0.113.5")
    assert mixed.message == "startip: is of IPv4: the range has none"
    assert (await cloud.call("deleteVlanIpRange", id=added["id"]))["success"] is True


@pytest_twisted.ensureDeferred
async def test_beside_ipv4_the_addresses_of_ipv6_are_shown(cloud: SmallCloud) -> None:
    span = {**PUBLIC, "startip": "198.51.100.10", "endip": "198.51.100.20"}
    added = await add(cloud, **span, ip6cidr="2001:db8:2::/64", ip6gateway="2001:db8:2::1")
    assert added["cidr"] == "198.51.100.0/24"
    assert (added["startipv6"], added["endipv6"]) == ("2001:db8:2::c633:640a", "2001:db8:2::c633:6414")
    other = await refused(cloud, "updateVlanIpRange", id=added["id"], startipv6="2001:db8:2::5")
    assert other.message.startswith("startipv6: is of IPv6: beside IPv4")
    # no other range can have these, of whichever family it is
    alone = {**ALONE, "ip6cidr": "2001:db8:2::/64", "ip6gateway": "2001:db8:2::1"}
    inside = {**alone, "startipv6": "2001:db8:2::c633:6400", "endipv6": "2001:db8:2::c633:64ff"}
    why = await refused(cloud, "createVlanIpRange", zoneid=cloud.zone.uuid, **inside)
    assert why.message.startswith("startipv6: range 2001:db8:2::c633:6400")
    assert "overlaps 2001:db8:2::c633:640a" in why.message
    beside = {**alone, "startipv6": "2001:db8:2::100", "endipv6": "2001:db8:2::1ff"}
    assert (await add(cloud, **beside))["startipv6"] == "2001:db8:2::100"


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_is_refused_by_its_parameter(cloud: SmallCloud) -> None:
    await add(cloud, **ALONE)

    async def why(**change: str) -> str:
        given = {**ALONE, "startipv6": "2001:db8:1::10", "endipv6": "2001:db8:1::1f", **change}
        return (await refused(cloud, "createVlanIpRange", zoneid=cloud.zone.uuid, **given)).message

    assert (await why(endipv6="2001:db8:1::100")).startswith("startipv6: range 2001:db8:1::10–")
    assert await why(ip6gateway="2001:db8:1::1") == (
        "ip6gateway: 2001:db8:1::1 is not the gateway of 2001:db8:1::/64 in zone zone1, fe80::1"
    )
    assert (await why(ip6cidr="2001:db8::/32")).startswith("ip6cidr: network 2001:db8::/32 overlaps")
    assert await why(ip6gateway="") == "ip6gateway: is missing"
    assert await why(ip6cidr="") == "gateway: is missing"
    assert (await why(gateway="198.51.100.1")) == "netmask: is missing"
    guest = await why(
        forvirtualnetwork="false",
        ip6cidr="2001:db8:9::/64",
        startipv6="2001:db8:9::5",
        endipv6="2001:db8:9::6",
    )
    assert (
        guest == "ip6cidr: guest addresses cannot be of IPv6 alone: DHCP and metadata are served by IPv4 only"
    )
    labels = cloud.configuration.labels
    before = labels["cloudbr0"]
    labels["cloudbr0"] = HostNetwork.of("cloudbr0", ["public"], "203.0.113.1/24", "2001:db8:1::15/64")
    assert "this host's own address 2001:db8:1::15" in await why()
    labels["cloudbr0"] = before


@pytest_twisted.ensureDeferred
async def test_management_needs_ipv4_and_can_have_ipv6_in_addition(cloud: SmallCloud) -> None:
    [pod] = (await cloud.call("listPods"))["pod"]
    alone = await refused(
        cloud, "createPod", zoneid=cloud.zone.uuid, name="p6", gateway="fd00::1", netmask="255.255.255.0"
    )
    assert alone.message == "gateway: fd00::1 is not an IPv4 address"
    assert "management and guest networks need IPv4" in alone.hint
    span = {"gateway": "10.11.0.1", "netmask": "255.255.255.0", "startip": "10.11.0.210"}
    await job(cloud, "createManagementNetworkIpRange", podid=pod["id"], ip6cidr="fd00:11::/64", **span)
    ranges = cloud.database.run_now(list_ranges, cloud.zone.id, TrafficType.MANAGEMENT)
    assert [str(each.cidr6) for each in ranges] == ["None", "fd00:11::/64"]


@pytest_twisted.ensureDeferred
async def test_storage_ranges_of_ipv6_are_made_and_listed(cloud: SmallCloud) -> None:
    [pod] = (await cloud.call("listPods"))["pod"]
    network = (await cloud.call("listPhysicalNetworks"))["physicalnetwork"][0]["id"]
    await job(
        cloud,
        "addTrafficType",
        physicalnetworkid=network,
        traffictype="Storage",
        kvmnetworklabel="cloudbr0",
    )
    given = {"ip6cidr": "fd00:12::/64", "ip6gateway": "fd00:12::1", "startipv6": "fd00:12::100"}
    added = await job(cloud, "createStorageNetworkIpRange", podid=pod["id"], endipv6="fd00:12::1ff", **given)
    made = added["storagenetworkiprange"]
    assert {key: made[key] for key in given} == given
    assert made in (await cloud.call("listStorageNetworkIpRange"))["storagenetworkiprange"]
    grown = await job(cloud, "updateStorageNetworkIpRange", id=made["id"], endipv6="fd00:12::2ff")
    assert grown["storagenetworkiprange"]["endipv6"] == "fd00:12::2ff"
    del given["startipv6"]
    without = await refused(cloud, "createStorageNetworkIpRange", podid=pod["id"], **given)
    assert without.message == "startipv6: is missing"
    await job(cloud, "deleteStorageNetworkIpRange", id=made["id"])


@pytest_twisted.ensureDeferred
async def test_a_whole_64_is_counted_and_no_address_is_given_twice(cloud: SmallCloud) -> None:
    added = await add(cloud, **ALONE)
    [of_ipv6] = [
        each
        for each in cloud.database.run_now(list_ranges, cloud.zone.id, TrafficType.PUBLIC)
        if each.uuid == added["id"]
    ]
    assert of_ipv6.size > MAX_TOTAL
    given = [
        cloud.database.run_now(addresses.allocate_from, [of_ipv6], vm_id=cloud.cpvm.id, randomly=randomly)[1]
        for randomly in (False, False, True, True)
    ]
    assert [str(each) for each in given[:2]] == ["2001:db8:1::100", "2001:db8:1::101"]
    assert len(set(given)) == 4 and all(each in of_ipv6 for each in given)
    [capacity] = (await cloud.call("listCapacity", type=10))["capacity"]
    assert (capacity["name"], capacity["capacityused"]) == ("VIRTUAL_NETWORK_IPV6_SUBNET", 4)
    assert capacity["capacitytotal"] == MAX_TOTAL == 2**63 - 1
    shown = next(
        each for each in (await cloud.call("listVlanIpRanges"))["vlaniprange"] if each["id"] == added["id"]
    )
    assert (shown["addressesused"], shown["addressestotal"]) == (4, MAX_TOTAL)
    [of_ipv4] = (await cloud.call("listCapacity", type=4))["capacity"]
    assert of_ipv4["capacitytotal"] == 100
    listed = (await cloud.call("listPublicIpAddresses", forsystemvms=True))["publicipaddress"]
    assert {str(each) for each in given} <= {each["ipaddress"] for each in listed}
    public = next(each for each in listed if each["ipaddress"] == "2001:db8:1::100")
    assert public["vlanid"] == added["id"]
    used = await refused(cloud, "deleteVlanIpRange", id=added["id"])
    assert "in use: 4 addresses" in used.message
