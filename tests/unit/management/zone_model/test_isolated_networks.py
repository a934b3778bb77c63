# SPDX-License-Identifier: Apache-2.0
"""Isolated guest networks: each is of one account, in a subnet of the host's."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest
import pytest_twisted

from account_networks import (
    SUBNETS,
    VLANS,
    change_label,
    create_network,
    deploy_on,
    give_vlans,
    network_of,
    vm_of,
)
from small_cloud import SmallCloud
from systemvm.management.api.zone_parts import guest_network_offering_of, isolated_offering_of
from systemvm.management.guest_networks.nics import WantedNic
from systemvm.management.network_helper import NetworkError
from systemvm.management.state import guest_networks, zones
from systemvm.management.state.zones import Zone
from systemvm.management.virtual_machines.deployment import Deployment
from systemvm.management.virtual_machines.errors import NotDeployableError
from systemvm.management.zone_model.refusals import ModelError


@pytest.fixture
def cloud(cloud: SmallCloud) -> SmallCloud:
    change_label(cloud, **VLANS, **SUBNETS)
    return cloud


@pytest_twisted.ensureDeferred
async def test_a_user_creates_a_network_in_a_free_subnet(cloud: SmallCloud) -> None:
    one = await create_network(cloud, "one")
    two = await create_network(cloud, "two", displaytext="The second")
    assert [(net["cidr"], net["gateway"]) for net in (one, two)] == [
        ("10.1.0.0/24", "10.1.0.1"),
        ("10.1.1.0/24", "10.1.1.1"),
    ]
    assert (one["type"], one["state"], one["acltype"]) == ("Isolated", "Allocated", "Account")
    assert (one["account"], one["networkofferingname"]) == ("users", "DefaultIsolatedNetworkOffering")
    assert {service["name"] for service in one["service"]} == {"Dhcp", "Dns", "UserData"}
    assert "vlan" not in one
    assert "broadcasturi" not in one
    chosen = await create_network(cloud, "three", gateway="10.1.9.126", netmask="255.255.255.128")
    assert chosen["cidr"] == "10.1.9.0/25"
    ranges = (await cloud.call("listVlanIpRanges"))["vlaniprange"]
    assert ("10.1.9.1", "10.1.9.125") in {(each["startip"], each["endip"]) for each in ranges}


@pytest_twisted.ensureDeferred
async def test_offerings_that_this_host_can_have_are_listed(cloud: SmallCloud) -> None:
    await give_vlans(cloud)
    found = (await cloud.call("listNetworkOfferings", cloud.user))["networkoffering"]
    assert {(each["name"], each["guestiptype"], each["specifyvlan"]) for each in found} == {
        ("Shared guest network", "Shared", True),
        ("DefaultIsolatedNetworkOffering", "Isolated", False),
        ("DefaultL2NetworkOfferingConfigDrive", "L2", False),
    }
    change_label(cloud, guest_cidr=None, vlans=frozenset({200}))
    [shared] = (await cloud.call("listNetworkOfferings"))["networkoffering"]
    assert shared["guestiptype"] == "Shared"
    with pytest.raises(ModelError, match="set guest_cidr of the label cloudbr3"):
        await create_network(cloud, "one")


@pytest_twisted.ensureDeferred
async def test_an_administrator_creates_one_for_an_account(cloud: SmallCloud) -> None:
    network = await create_network(
        cloud,
        "one",
        cloud.admin,
        networkofferingid=isolated_offering_of(cloud.zone).id,
        account="users",
        domainid=cloud.user.domain.uuid,
    )
    assert network["account"] == "users"
    larger = await create_network(
        cloud, "two", cloud.admin,
        networkofferingid=isolated_offering_of(cloud.zone).id, gateway="10.1.8.1", netmask="255.255.254.0",
    )  # fmt: skip
    assert larger["cidr"] == "10.1.8.0/23"
    [found] = (await cloud.call("listNetworks", cloud.user, type="Isolated"))["network"]
    assert found["id"] == network["id"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"gateway": "10.2.0.1", "netmask": "255.255.255.0"}, "is not in 10.1.0.0/16"),
        ({"gateway": "10.1.8.1", "netmask": "255.255.254.0"}, r"10.1.8.0/23 is too large.* is a /24"),
        ({"gateway": "10.1.0.129", "netmask": "255.255.255.128"}, "a host can have each only once"),
        ({"gateway": "10.1.0.0", "netmask": "255.255.255.0"}, "network or broadcast address"),
        ({"gateway": "10.1.5.1"}, "netmask: is missing"),
        ({"networkofferingid": "5a8b6d3e-0000-4000-8000-000000000000"}, "is not an offering"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_network_that_cannot_be_is_refused(
    cloud: SmallCloud, given: dict[str, Any], why: str
) -> None:
    await create_network(cloud, "first")
    with pytest.raises(ModelError, match=why):
        await create_network(cloud, "second", **given)
    assert len((await cloud.call("listNetworks", cloud.user, type="Isolated"))["network"]) == 1


@pytest.mark.parametrize(
    ("gateway", "netmask"), [("10.1.0.1", "255.255.255.0"), ("10.1.0.129", "255.255.255.128")]
)
@pytest.mark.parametrize("command", ["createVlanIpRange", "createNetwork"])
@pytest.mark.parametrize("is_other_zone", [False, True])
@pytest_twisted.ensureDeferred
async def test_no_other_range_is_in_the_subnet_of_one(
    cloud: SmallCloud, is_other_zone: bool, command: str, gateway: str, netmask: str
) -> None:
    await create_network(cloud, "first")
    zone = await _zone_with_guests(cloud) if is_other_zone else cloud.zone
    before = await cloud.call("listVlanIpRanges")
    given = {"gateway": gateway, "netmask": netmask, "startip": "10.1.0.130", "endip": "10.1.0.140"}
    more = {
        "createVlanIpRange": {"forvirtualnetwork": "false"},
        "createNetwork": {"name": "shared", "networkofferingid": guest_network_offering_of(zone).id},
    }
    with pytest.raises(ModelError, match=r"overlaps 10\.1\.0\.0/24 of isolated network first") as refused:
        await cloud.call(command, zoneid=zone.uuid, **given, **more[command])
    assert refused.value.parameter == "netmask"
    assert await cloud.call("listVlanIpRanges") == before


async def _zone_with_guests(cloud: SmallCloud) -> Zone:
    made = await cloud.call("createZone", name="zone2", dns1="192.0.2.53", internaldns1="10.11.0.2")
    zone = cloud.database.run_now(zones.zone_by_uuid, made["zone"]["id"])
    network = await cloud.job("createPhysicalNetwork", zoneid=zone.uuid, name="guests")
    physical = network.result["physicalnetwork"]["id"]
    added = await cloud.job(
        "addTrafficType", physicalnetworkid=physical, traffictype="Guest", kvmnetworklabel="cloudbr3"
    )
    assert added.result_code == 0, added.result
    return zone


@pytest_twisted.ensureDeferred
async def test_one_is_not_in_the_subnet_of_another_range(cloud: SmallCloud) -> None:
    await cloud.call(
        "createVlanIpRange", zoneid=cloud.zone.uuid, forvirtualnetwork="false", gateway="10.1.0.1",
        netmask="255.255.255.0", startip="10.1.0.10", endip="10.1.0.20",
    )  # fmt: skip
    with pytest.raises(ModelError, match="overlaps one that is in use") as refused:
        await create_network(cloud, "first", gateway="10.1.0.1", netmask="255.255.255.0")
    assert refused.value.parameter == "netmask"
    assert (await create_network(cloud, "first"))["cidr"] == "10.1.1.0/24"


@pytest_twisted.ensureDeferred
async def test_when_no_subnet_is_left_the_next_network_is_refused(cloud: SmallCloud) -> None:
    change_label(cloud, guest_cidr=IPv4Network("10.1.0.0/25"))
    assert (await create_network(cloud, "one"))["cidr"] == "10.1.0.0/25"
    with pytest.raises(ModelError, match=r"no subnet of 10\.1\.0\.0/25 is free"):
        await create_network(cloud, "two")


@pytest_twisted.ensureDeferred
async def test_a_network_is_deleted_without_vms_and_its_vlan_is_free(cloud: SmallCloud) -> None:
    await give_vlans(cloud, "100")
    network = await create_network(cloud, "one")
    vm = vm_of(cloud, await deploy_on(cloud, "web", network))
    refused = await cloud.job("deleteNetwork", cloud.user, id=network["id"])
    assert "1 virtual machine: web" in str(refused.result)
    await cloud.job("destroyVirtualMachine", id=vm.uuid, expunge="true")
    assert (await cloud.job("deleteNetwork", cloud.user, id=network["id"])).result_code == 0
    again = await create_network(cloud, "one")
    assert again["cidr"] == network["cidr"]
    vm_of(cloud, await deploy_on(cloud, "next", again))
    assert (await network_of(cloud, again))["vlan"] == "100"


@pytest_twisted.ensureDeferred
async def test_a_vm_of_a_network_that_is_deleted_meanwhile_is_refused(cloud: SmallCloud) -> None:
    await give_vlans(cloud)
    network = await create_network(cloud, "one")
    [row] = cloud.database.run_now(guest_networks.list_networks)
    template, _ = cloud.add_template(public=True)
    wanted = Deployment(  # as it was read before the deletion
        template_id=template.id,
        zone_id=cloud.zone.id,
        host_id=cloud.host.id,
        account_id=cloud.user.account.id,
        domain_id=cloud.user.domain.id,
        user_id=cloud.user.user.id,
        vcpus=1,
        memory_mib=64,
        bridge="cloudbr3",
        nics=(WantedNic(row.id),),
    )
    assert (await cloud.job("deleteNetwork", cloud.user, id=network["id"])).result_code == 0
    with pytest.raises(NotDeployableError, match="network one was deleted"):
        await cloud.machines.deploy(wanted)
    assert await cloud.call("listVirtualMachines", cloud.user) == {}


@pytest_twisted.ensureDeferred
async def test_the_services_of_a_network_are_started_anew(cloud: SmallCloud) -> None:
    await give_vlans(cloud)
    network = await create_network(cloud, "one")
    assert (await cloud.job("restartNetwork", cloud.user, id=network["id"])).result_code == 0
    assert cloud.guest_services.stopped == []
    vm_of(cloud, await deploy_on(cloud, "web", network))
    assert (await cloud.job("restartNetwork", cloud.user, id=network["id"])).result_code == 0
    assert cloud.guest_services.stopped == ["cloudbr3-100"]
    cloud.guest_services.failed = {"cloudbr3-100": NetworkError("dnsmasq cannot be started", "")}
    job = await cloud.job("restartNetwork", cloud.user, id=network["id"])
    assert "dnsmasq cannot be started" in str(job.result)
    cloud.guest_services.failed = {}
    cloud.guest_services.error = NetworkError("no answer", "")
    job = await cloud.job("restartNetwork", cloud.user, id=network["id"])
    assert "network is not served: no answer" in str(job.result)


@pytest_twisted.ensureDeferred
async def test_networks_of_a_deleted_account_are_gone(cloud: SmallCloud) -> None:
    network = await create_network(cloud, "one")
    assert (await cloud.job("deleteAccount", id=cloud.user.account.uuid)).result_code == 0
    assert (await cloud.call("listNetworks", listall="true", type="Isolated")) == {}
    offering = isolated_offering_of(cloud.zone).id
    again = await create_network(cloud, "two", cloud.admin, networkofferingid=offering)
    assert again["cidr"] == network["cidr"]
