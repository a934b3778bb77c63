# SPDX-License-Identifier: Apache-2.0
"""Shared guest networks: made by the API, used by machines, and deleted when none is on them."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve

from api_requests import NOWHERE, refusal
from small_cloud import SmallCloud
from systemvm.host.bridges import HostNetwork
from systemvm.host.zone import TrafficType
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.api.zone_parts import guest_network_of, guest_network_offering_of
from systemvm.management.state import address_ranges
from systemvm.management.state.columns import now
from systemvm.management.state.rows import NotFoundError
from systemvm.management.zone_model.refusals import ModelError
from user_vms import deploy_by_api, deployment_parameters

SUBNET = {
    "gateway": "10.14.0.254",
    "netmask": "255.255.255.0",
    "startip": "10.14.0.10",
    "endip": "10.14.0.11",
}


@pytest.fixture
def cloud(cloud: SmallCloud) -> SmallCloud:
    """A cloud whose host has an address in a second guest subnet."""
    labels: Any = cloud.configuration.labels
    bridge: HostNetwork = labels["cloudbr3"]
    second = HostNetwork.of("cloudbr3", ["guest"], "10.14.0.1/24").addresses
    labels["cloudbr3"] = evolve(bridge, addresses=(*bridge.addresses, *second))
    return cloud


async def create(cloud: SmallCloud, **more: Any) -> dict[str, Any]:
    parameters = SUBNET | {"name": "second", "zoneid": cloud.zone.uuid} | more
    found: dict[str, Any] = (await cloud.call("createNetwork", **parameters))["network"]
    return found


@pytest_twisted.ensureDeferred
async def test_a_network_is_listed_beside_the_zones_own(cloud: SmallCloud) -> None:
    offering = guest_network_offering_of(cloud.zone).id
    created = await create(
        cloud, displaytext="For tests", networkdomain="second.test", networkofferingid=offering
    )
    assert (created["cidr"], created["gateway"]) == ("10.14.0.0/24", "10.14.0.254")
    assert (created["networkdomain"], created["isdefault"]) == ("second.test", False)
    own, listed = (await cloud.call("listNetworks"))["network"]
    assert (own["id"], own["isdefault"]) == (guest_network_of(cloud.zone).id, True)
    assert listed == created
    [found] = (await cloud.call("listNetworks", id=created["id"]))["network"]
    assert found["displaytext"] == "For tests"
    await cloud.job("updateNetwork", id=created["id"], name="other", networkdomain="other.test")
    [found] = (await cloud.call("listNetworks", id=created["id"]))["network"]
    assert (found["name"], found["networkdomain"]) == ("other", "other.test")
    await cloud.job("updateNetwork", id=created["id"], displaytext="")
    [found] = (await cloud.call("listNetworks", id=created["id"]))["network"]
    assert found["displaytext"] == "other"


@pytest_twisted.ensureDeferred
async def test_a_vm_has_a_nic_on_each_network_that_it_names(cloud: SmallCloud) -> None:
    network = await create(cloud, networkdomain="second.test")
    own = guest_network_of(cloud.zone).id
    both = await deploy_by_api(
        cloud, name="both", networkids=f"{network['id']},{own}", ipaddress="10.14.0.11"
    )
    only_own = await deploy_by_api(cloud, name="own")
    [listed] = (await cloud.call("listVirtualMachines", networkid=network["id"]))["virtualmachine"]
    assert listed["id"] == both.uuid
    assert [(nic["networkname"], nic.get("ipaddress")) for nic in listed["nic"]] == [
        ("second", "10.14.0.11"),
        ("zone1-guest", None),
    ]
    assert [nic["isdefault"] for nic in listed["nic"]] == [True, False]
    on_own = (await cloud.call("listVirtualMachines", networkid=own))["virtualmachine"]
    assert {vm["id"] for vm in on_own} == {both.uuid, only_own.uuid}
    [bridge] = cloud.guest_services.served[-1]
    [subnet] = bridge.subnets
    assert (subnet.domain, subnet.gateway) == ("second.test", IPv4Address("10.14.0.254"))
    assert [(guest.name, guest.has_router) for guest in subnet.guests] == [("both", True)]


@pytest_twisted.ensureDeferred
async def test_addresses_are_asked_for_by_network(cloud: SmallCloud) -> None:
    network = await create(cloud)
    parameters: dict[str, Any] = {
        "iptonetworklist": [
            {"networkid": guest_network_of(cloud.zone).id},
            {"networkid": network["id"], "ip": "10.14.0.11"},
        ]
    }
    vm = await deploy_by_api(cloud, name="one", **parameters)
    [listed] = (await cloud.call("listVirtualMachines", id=vm.uuid))["virtualmachine"]
    assert [nic.get("ipaddress") for nic in listed["nic"]] == [None, "10.14.0.11"]
    [bridge] = cloud.guest_services.served[-1]
    assert [guest.has_router for subnet in bridge.subnets for guest in subnet.guests] == [False]


@pytest.mark.parametrize(
    "wrong",
    [
        {"networkids": "{id},{id}"},
        {"networkids": "{id}", "iptonetworklist": [{"networkid": "{id}"}]},
        {"iptonetworklist": [{"ip": "10.14.0.10"}]},
        {"iptonetworklist": [{"networkid": "{id}", "mac": "x"}]},
        {"iptonetworklist": [{"networkid": "5a8b6d3e-0000-4000-8000-000000000000"}]},
    ],
)
@pytest_twisted.ensureDeferred
async def test_networks_of_a_deployment_that_cannot_be_are_refused(
    cloud: SmallCloud, wrong: dict[str, Any]
) -> None:
    uuid = (await create(cloud))["id"]

    def named(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("{id}", uuid)
        return [{key: named(text) for key, text in entry.items()} for entry in value]

    parameters = await deployment_parameters(cloud)
    with pytest.raises(ApiError):
        await cloud.call("deployVirtualMachine", **parameters, **{k: named(v) for k, v in wrong.items()})
    assert await cloud.call("listVirtualMachines") == {}


@pytest_twisted.ensureDeferred
async def test_a_network_is_deleted_when_no_vm_is_on_it(cloud: SmallCloud) -> None:
    network = await create(cloud)
    vm = await deploy_by_api(cloud, name="one", networkids=network["id"])
    refused = await cloud.job("deleteNetwork", id=network["id"])
    assert refused.result_code != 0
    await cloud.job("destroyVirtualMachine", id=vm.uuid, expunge="true")
    assert (await cloud.job("deleteNetwork", id=network["id"])).result_code == 0
    [own] = (await cloud.call("listNetworks"))["network"]
    assert own["isdefault"] is True
    assert (await create(cloud))["id"] != network["id"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"gateway": "10.15.0.1", "startip": "10.15.0.10", "endip": "10.15.0.20"},
            "no address in 10.15.0.0/24",
        ),
        (
            {"gateway": "10.13.0.1", "startip": "10.13.0.10", "endip": "10.13.0.20"},
            "guest network of zone zone1",
        ),
        ({"gateway": "10.11.0.1", "startip": "10.11.0.10", "endip": "10.11.0.20"}, "overlaps"),
        ({"startip": "10.14.0.1", "endip": "10.14.0.20"}, "own address 10.14.0.1"),
        ({"vlan": "100"}, "vlan"),
        ({"networkdomain": "a b"}, "is not a domain"),
        ({"networkofferingid": "5a8b6d3e-0000-4000-8000-000000000000"}, "not an offering"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_network_that_cannot_be_served_is_refused(
    cloud: SmallCloud, change: dict[str, str], why: str
) -> None:
    with pytest.raises(ModelError, match=why):
        await create(cloud, **change)
    assert len((await cloud.call("listNetworks"))["network"]) == 1


@pytest_twisted.ensureDeferred
async def test_a_further_range_of_a_subnet_is_of_its_network(cloud: SmallCloud) -> None:
    network = await create(cloud)
    span = SUBNET | {"startip": "10.14.0.20", "endip": "10.14.0.20"}
    await cloud.call("createVlanIpRange", zoneid=cloud.zone.uuid, forvirtualnetwork="false", **span)
    await deploy_by_api(cloud, name="one", networkids=network["id"], ipaddress="10.14.0.20")
    # the zone's own network has got no address by that
    own = guest_network_of(cloud.zone).id
    await deploy_by_api(cloud, name="two", networkids=own)
    [listed] = (await cloud.call("listVirtualMachines", networkid=own))["virtualmachine"]
    assert "ipaddress" not in listed["nic"][0]
    await cloud.job("destroyVirtualMachine", id=(await machine_named(cloud, "one"))["id"], expunge="true")
    assert (await cloud.job("deleteNetwork", id=network["id"])).result_code == 0
    assert len((await cloud.call("listVlanIpRanges"))["vlaniprange"]) == 1  # the public one


async def ranges_of(cloud: SmallCloud, **which: Any) -> list[str]:
    found = (await cloud.call("listVlanIpRanges", **which)).get("vlaniprange", [])
    return [each["startip"] for each in found]


@pytest_twisted.ensureDeferred
async def test_ranges_are_added_to_a_network_by_its_id_and_listed_by_it(cloud: SmallCloud) -> None:
    network, own = await create(cloud), guest_network_of(cloud.zone).id
    [physical] = [
        each
        for each in (await cloud.call("listPhysicalNetworks"))["physicalnetwork"]
        if each["name"] == "cloudbr3"
    ]
    span = SUBNET | {"startip": "10.14.0.20", "endip": "10.14.0.21"}
    added = (await cloud.call("createVlanIpRange", networkid=network["id"], **span))["vlan"]
    assert (added["networkid"], added["forvirtualnetwork"]) == (network["id"], False)
    of_zone = SUBNET | {"gateway": "10.13.0.1", "startip": "10.13.0.50", "endip": "10.13.0.51"}
    zones_own = await cloud.call(
        "createVlanIpRange", networkid=own, zoneid=cloud.zone.uuid, physicalnetworkid=physical["id"],
        forvirtualnetwork="false", **of_zone,
    )  # fmt: skip
    assert zones_own["vlan"]["networkid"] == own
    assert await ranges_of(cloud, networkid=network["id"]) == ["10.14.0.10", "10.14.0.20"]
    assert await ranges_of(cloud, networkid=own) == ["10.13.0.50"]
    assert await ranges_of(cloud, networkid=own, forvirtualnetwork="true") == []
    assert await ranges_of(cloud, networkid=NOWHERE) == []
    [public] = (await cloud.call("listVlanIpRanges", forvirtualnetwork="true"))["vlaniprange"]
    assert "networkid" not in public
    assert len(await ranges_of(cloud, vlan="untagged")) == len(await ranges_of(cloud)) == 4
    assert await ranges_of(cloud, vlan="100") == await ranges_of(cloud, vlan="vlan://100") == []


@pytest_twisted.ensureDeferred
async def test_a_range_without_addresses_is_listed_when_it_is_asked_for(cloud: SmallCloud) -> None:
    """Clients of CloudStack expect `startip` of each range of IPv4."""
    subnet = SUBNET | {"gateway": "10.15.0.1", "zoneid": cloud.zone.uuid, "forvirtualnetwork": "false"}
    del subnet["startip"], subnet["endip"]
    added = (await cloud.call("createVlanIpRange", **subnet))["vlan"]
    assert (added["addressestotal"], "startip" in added) == (0, False)
    assert added not in (await cloud.call("listVlanIpRanges"))["vlaniprange"]
    guests = {"forvirtualnetwork": "false", "withoutaddresses": "true"}
    assert added in (await cloud.call("listVlanIpRanges", **guests))["vlaniprange"]
    ordered = await cloud.call("listVlanIpRanges", sortby="startip", withoutaddresses="true")
    assert ordered["vlaniprange"][-1]["startip"] == "203.0.113.100"
    with pytest.raises(ModelError, match="startip: is missing: the range has no addresses yet"):
        await cloud.call("updateVlanIpRange", id=added["id"], endip="10.15.0.9")
    span = {"startip": "10.15.0.5", "endip": "10.15.0.9"}
    await cloud.call("updateVlanIpRange", id=added["id"], **span)
    assert await ranges_of(cloud, id=added["id"]) == ["10.15.0.5"]


@pytest_twisted.ensureDeferred
async def test_the_event_of_a_deleted_range_without_addresses_has_its_subnet(cloud: SmallCloud) -> None:
    subnet = SUBNET | {"gateway": "10.15.0.1", "zoneid": cloud.zone.uuid, "forvirtualnetwork": "false"}
    del subnet["startip"], subnet["endip"]
    added = (await cloud.call("createVlanIpRange", **subnet))["vlan"]
    await cloud.call("deleteVlanIpRange", id=added["id"])
    [event] = (await cloud.call("listEvents", type="VLAN.IP.RANGE.DELETE"))["event"]
    assert "10.15.0.0/24" in event["description"]


@pytest_twisted.ensureDeferred
async def test_a_range_of_a_network_in_a_vlan_gets_its_vlan(cloud: SmallCloud) -> None:
    labels: Any = cloud.configuration.labels
    bridge: HostNetwork = labels["cloudbr3"]
    tagged = HostNetwork.of("cloudbr3", ["guest"], "10.15.0.1/24").addresses
    labels["cloudbr3"] = evolve(bridge, vlans=frozenset(range(100, 200)), vlan_addresses=((100, tagged),))
    subnet = {"gateway": "10.15.0.254", "netmask": "255.255.255.0"}
    network = await create(cloud, vlan="100", startip="10.15.0.10", endip="10.15.0.11", **subnet)
    added = await cloud.call("createVlanIpRange", networkid=network["id"], startip="10.15.0.20", **subnet)
    assert added["vlan"]["vlan"] == "vlan://100"
    wrong = await refused_range(cloud, networkid=network["id"], startip="10.15.0.30", vlan="101", **subnet)
    assert wrong.startswith("vlan: ")


async def refused_range(cloud: SmallCloud, **parameters: Any) -> str:
    with pytest.raises(ModelError) as error:
        await cloud.call("createVlanIpRange", **parameters)
    return error.value.message


@pytest_twisted.ensureDeferred
async def test_a_range_that_is_not_the_networks_is_refused(cloud: SmallCloud) -> None:
    network, own = await create(cloud), guest_network_of(cloud.zone).id
    span = SUBNET | {"startip": "10.14.0.20", "endip": "10.14.0.21"}
    public = await refused_range(cloud, networkid=network["id"], forvirtualnetwork="true", **span)
    assert "no public addresses" in public
    other = {"gateway": "10.13.0.1", "netmask": "255.255.255.0", "startip": "10.13.0.50"}
    assert "not the subnet of network second, 10.14.0.0/24" in await refused_range(
        cloud, networkid=network["id"], **other
    )
    assert "is the subnet of another network" in await refused_range(cloud, networkid=own, **span)
    elsewhere = (await cloud.call("createZone", name="zone2", dns1="192.0.2.53", internaldns1="192.0.2.53"))[
        "zone"
    ]["id"]
    assert "the network is in zone zone1" in await refused_range(
        cloud, networkid=network["id"], zoneid=elsewhere, **span
    )
    [physical] = [
        each
        for each in (await cloud.call("listPhysicalNetworks"))["physicalnetwork"]
        if each["name"] == "cloudbr0"
    ]
    assert "cloudbr0 does not carry guest traffic of zone zone1" in await refused_range(
        cloud, networkid=network["id"], physicalnetworkid=physical["id"], **span
    )
    assert "zoneid: is missing" in await refused_range(cloud, **span)
    with pytest.raises(NotFoundError):
        await cloud.call("createVlanIpRange", networkid=NOWHERE, **span)
    assert await ranges_of(cloud, networkid=network["id"]) == ["10.14.0.10"]


@pytest.mark.parametrize("name", ["account", "domainid", "projectid", "podid"])
@pytest_twisted.ensureDeferred
async def test_what_has_no_meaning_for_ranges_is_refused_with_the_reason(
    cloud: SmallCloud, name: str
) -> None:
    for command, given in (("listVlanIpRanges", {}), ("createVlanIpRange", SUBNET)):
        error = await refusal(cloud, command, **given, **{name: NOWHERE})
        assert error.code is ErrorCode.PARAMETER
        why = "these ranges are of zones" if name == "podid" else "no account owns addresses"
        assert f"{command} does not support the parameter {name} in this release: {why}" in error.message


@pytest_twisted.ensureDeferred
async def test_the_last_range_of_a_network_is_not_deleted(cloud: SmallCloud) -> None:
    network = await create(cloud)
    [first] = [
        each
        for each in (await cloud.call("listVlanIpRanges"))["vlaniprange"]
        if each["startip"] == "10.14.0.10"
    ]
    with pytest.raises(ModelError, match="is the last one of guest network second"):
        await cloud.call("deleteVlanIpRange", id=first["id"])
    span = SUBNET | {"startip": "10.14.0.20", "endip": "10.14.0.20"}
    await cloud.call("createVlanIpRange", zoneid=cloud.zone.uuid, forvirtualnetwork="false", **span)
    await cloud.call("deleteVlanIpRange", id=first["id"])
    assert (await cloud.job("deleteNetwork", id=network["id"])).result_code == 0


@pytest_twisted.ensureDeferred
async def test_a_network_that_lost_its_ranges_is_listed_and_deleted_without_vms(cloud: SmallCloud) -> None:
    network = await create(cloud)
    for each in cloud.database.run_now(address_ranges.list_ranges, cloud.zone.id, TrafficType.GUEST):
        if each.guest_network_id is not None:
            cloud.database.run_now(address_ranges.rows.update, each.id, removed=now())
    vm = await deploy_by_api(cloud, name="one", networkids=network["id"])
    [found] = (await cloud.call("listNetworks", id=network["id"]))["network"]
    assert "cidr" not in found
    refused = await cloud.job("deleteNetwork", id=network["id"])
    assert "1 virtual machine: one" in str(refused.result)
    await cloud.job("destroyVirtualMachine", id=vm.uuid, expunge="true")
    assert (await cloud.job("deleteNetwork", id=network["id"])).result_code == 0


async def machine_named(cloud: SmallCloud, name: str) -> dict[str, Any]:
    [found] = (await cloud.call("listVirtualMachines", name=name))["virtualmachine"]
    return dict(found)


@pytest_twisted.ensureDeferred
async def test_a_name_is_given_once(cloud: SmallCloud) -> None:
    await create(cloud)
    with pytest.raises(ModelError, match="name: SECOND is the name of another one"):
        await create(cloud, name="SECOND")
