# SPDX-License-Identifier: Apache-2.0
"""The VLAN of an isolated network: it has one while a VM runs on it, and its services with it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface
from typing import Any

import pytest
import pytest_twisted
from twisted.logger import capturedLogs

from account_networks import (
    SUBNETS,
    VLANS,
    change_label,
    create_network,
    deploy_on,
    give_vlans,
    guest_traffic,
    network_of,
    nic_of,
    vm_of,
)
from present import present
from small_cloud import SmallCloud
from systemvm.host.guest_services import Guest
from systemvm.host.guest_vlans import GuestLink
from systemvm.management.api.errors import ErrorCode
from systemvm.management.guest_networks import vlans
from systemvm.management.guest_networks.vlans import NO_BRIDGE, NoVlanError
from systemvm.management.network_helper import NetworkError
from systemvm.management.state import address_ranges, instances, machine_passwords
from systemvm.management.zone_model.refusals import ModelError
from user_vms import deployment_parameters


@pytest.fixture
def cloud(cloud: SmallCloud) -> SmallCloud:
    change_label(cloud, **VLANS, **SUBNETS)
    return cloud


@pytest_twisted.ensureDeferred
async def test_a_network_has_a_vlan_while_a_vm_runs_on_it(cloud: SmallCloud) -> None:
    await give_vlans(cloud)
    network = await create_network(cloud, "one", networkdomain="one.test")
    vm = vm_of(cloud, await deploy_on(cloud, "web", network))
    found = await network_of(cloud, network)
    assert (found["state"], found["vlan"], found["broadcasturi"]) == ("Implemented", "100", "vlan://100")
    assert cloud.guest_services.links == [GuestLink("cloudbr3", 100, IPv4Interface("10.1.0.1/24"))]
    nic = nic_of(cloud, vm)
    assert (nic.bridge, nic.address) == ("cloudbr3-100", "10.1.0.2")
    spec = cloud.hypervisor.specs[vm.instance_name]
    assert [each.bridge for each in spec.nics] == ["cloudbr3-100"]
    [bridge] = cloud.guest_services.served[-1]
    [subnet] = bridge.subnets
    guest = Guest(nic.mac, IPv4Address("10.1.0.2"), "web", is_here=True)
    assert (bridge.bridge, subnet.domain, subnet.guests) == ("cloudbr3-100", "one.test", (guest,))
    assert (subnet.gateway, subnet.host_address) == (None, IPv4Address("10.1.0.1"))  # no router
    # it gives the VLAN back when nothing runs on it, and can get another one
    await cloud.job("stopVirtualMachine", cloud.user, id=vm.uuid, forced="true")
    await cloud.guest_networks.update()
    found = await network_of(cloud, network)
    assert (found["state"], "vlan" in found) == ("Allocated", False)
    assert cloud.guest_services.links == []
    assert cloud.guest_services.served[-1] == []
    await deploy_on(cloud, "other", await create_network(cloud, "two"))
    await cloud.job("startVirtualMachine", cloud.user, id=vm.uuid)
    assert (await network_of(cloud, network))["vlan"] == "101"
    assert nic_of(cloud, vm).bridge == "cloudbr3-101"


@pytest_twisted.ensureDeferred
async def test_subnets_are_read_once_for_all_networks(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    await give_vlans(cloud)
    for name in ("one", "two"):
        vm_of(cloud, await deploy_on(cloud, name, await create_network(cloud, name)))
    read, list_ranges = list[object](), address_ranges.list_ranges

    def count(*given: Any, **named: Any) -> Any:
        read.append(given)
        return list_ranges(*given, **named)

    monkeypatch.setattr(address_ranges, "list_ranges", count)
    assert len(cloud.database.run_now(vlans.links, cloud.configuration.labels)) == 2
    assert len(read) == 1
    cloud.database.run_now(vlans.note_implemented, cloud.configuration.labels, [])
    assert len(read) == 1, "no network is being implemented"


@pytest_twisted.ensureDeferred
async def test_a_vm_without_a_vlan_does_not_start_and_says_why(cloud: SmallCloud) -> None:
    network = await create_network(cloud, "one")
    job = await deploy_on(cloud, "early", network)
    assert job.result_code == ErrorCode.INSUFFICIENT_CAPACITY
    assert "has no VLANs for isolated and L2 networks" in str(job.result)
    await give_vlans(cloud)
    for name in ("two", "three"):
        vm_of(cloud, await deploy_on(cloud, name, await create_network(cloud, name)))
    with pytest.raises(NoVlanError, match="all of 100-101 are in use"):
        await cloud.machines.start(cloud.database.run_now(instances.list_user)[0].id)
    found = await network_of(cloud, network)
    assert (found["state"], "vlan" in found) == ("Allocated", False)


@pytest_twisted.ensureDeferred
async def test_a_vm_does_not_start_when_the_host_cannot_have_its_vlan(cloud: SmallCloud) -> None:
    await give_vlans(cloud)
    network = await create_network(cloud, "one")
    services = cloud.guest_services
    services.unlinked = {"cloudbr3-100": NetworkError("this host has no guest VLAN 100", "add it to vlans")}
    job = await deploy_on(cloud, "web", network)
    assert job.result_code == ErrorCode.RESOURCE_UNAVAILABLE
    assert "this host has no guest VLAN 100" in str(job.result)
    assert cloud.hypervisor.specs == {}
    assert (await network_of(cloud, network))["state"] == "Implementing"
    # the next pass takes the VLAN back; the next start makes the network whole
    await cloud.guest_networks.update()
    assert (await network_of(cloud, network))["state"] == "Allocated"
    services.unlinked = {}
    [vm] = (await cloud.call("listVirtualMachines", cloud.user))["virtualmachine"]
    assert (await cloud.job("startVirtualMachine", cloud.user, id=vm["id"])).result_code == 0
    assert (await network_of(cloud, network))["state"] == "Implemented"


@pytest_twisted.ensureDeferred
async def test_a_helper_that_dies_in_the_middle_leaves_a_network_that_the_next_start_finishes(
    cloud: SmallCloud,
) -> None:
    await give_vlans(cloud)
    network = await create_network(cloud, "one")
    cloud.guest_services.link_error = NetworkError("network helper closed the connection", "")
    assert (await deploy_on(cloud, "web", network)).result_code == ErrorCode.RESOURCE_UNAVAILABLE
    assert (await network_of(cloud, network))["vlan"] == "100"
    cloud.guest_services.link_error = None
    [vm] = (await cloud.call("listVirtualMachines", cloud.user))["virtualmachine"]
    assert (await cloud.job("startVirtualMachine", cloud.user, id=vm["id"])).result_code == 0
    found = await network_of(cloud, network)
    assert (found["state"], found["vlan"]) == ("Implemented", "100")


@pytest_twisted.ensureDeferred
async def test_vlans_of_a_physical_network_are_those_of_the_label(cloud: SmallCloud) -> None:
    await give_vlans(cloud, "100,101")
    guest = await guest_traffic(cloud)
    assert guest["vlan"] == "100-101"
    for wrong, why in (("100-102", "102 cannot be VLANs"), ("200", "200 cannot"), ("x", "is not a VLAN")):
        job = await cloud.job("updatePhysicalNetwork", id=guest["id"], vlan=wrong)
        assert why in str(job.result)
    network = await create_network(cloud, "one")
    vm_of(cloud, await deploy_on(cloud, "web", network))
    job = await cloud.job("updatePhysicalNetwork", id=guest["id"], vlan="101")
    assert job.result_code == ErrorCode.RESOURCE_IN_USE
    assert "1 network: one" in str(job.result)


@pytest_twisted.ensureDeferred
async def test_a_password_is_known_as_taken_before_the_network_loses_its_services(cloud: SmallCloud) -> None:
    await give_vlans(cloud)
    network = await create_network(cloud, "one")
    template, _ = cloud.add_template(public=True, password_enabled=True)
    parameters = await deployment_parameters(cloud, template, name="web", networkids=network["id"])
    vm = vm_of(cloud, await cloud.job("deployVirtualMachine", cloud.user, **parameters))
    stored = present(cloud.database.run_now(machine_passwords.of_vm, vm.id))
    await cloud.job("stopVirtualMachine", cloud.user, id=vm.uuid, forced="true")
    services = cloud.guest_services
    # while it cannot be asked which were taken, nothing is ended that has the marks
    services.taken_error = NetworkError("no answer", "")
    served = len(services.served)
    await cloud.guest_networks.update()
    assert len(services.served) == served
    assert (await network_of(cloud, network))["vlan"] == "100"
    services.taken_error, services.taken = None, [stored.uuid]
    services.link_error = NetworkError("the daemon is killed here", "")
    await cloud.guest_networks.update()
    assert present(cloud.database.run_now(machine_passwords.of_vm, vm.id)).sealed is None
    assert (await network_of(cloud, network))["state"] == "Allocated"


@pytest_twisted.ensureDeferred
async def test_user_data_of_a_vm_whose_network_has_no_vlan_yet_waits(cloud: SmallCloud) -> None:
    await give_vlans(cloud)
    network = await create_network(cloud, "one")
    vm = vm_of(cloud, await deploy_on(cloud, "web", network, startvm="false"))
    assert nic_of(cloud, vm).bridge == NO_BRIDGE
    await cloud.guest_networks.update()
    with capturedLogs() as logs:
        await cloud.call("updateVirtualMachine", cloud.user, id=vm.uuid, userdata="SGVsbG8=")
    assert [event for event in logs if "why" in event] == []
    assert cloud.guest_services.data == {}
    assert (await cloud.job("startVirtualMachine", cloud.user, id=vm.uuid)).result_code == 0
    assert cloud.guest_services.data[IPv4Address("10.1.0.2")].user_data == b"Hello"


@pytest_twisted.ensureDeferred
async def test_no_other_range_is_in_a_vlan_of_isolated_networks(cloud: SmallCloud) -> None:
    change_label(
        cloud, vlans=frozenset({100, 101, 102}), traffic_types=("guest", "public", "storage"),
        vlan_addresses=(),
    )  # fmt: skip
    await give_vlans(cloud)
    for network in (await cloud.call("listPhysicalNetworks"))["physicalnetwork"]:
        answer = await cloud.call("listTrafficTypes", physicalnetworkid=network["id"])
        for each in answer.get("traffictype", []):
            if each["traffictype"] == "Public":
                job = await cloud.job("updateTrafficType", id=each["id"], kvmnetworklabel="cloudbr3")
                assert job.result_code == 0, job.result
        if network["name"] == "cloudbr3":
            job = await cloud.job("addTrafficType", physicalnetworkid=network["id"], traffictype="Storage")
            assert job.result_code == 0, job.result
    public = {"zoneid": cloud.zone.uuid, "netmask": "255.255.255.0", "gateway": "198.51.100.1"}
    with pytest.raises(ModelError, match="VLAN 100 of label cloudbr3 is of networks of accounts"):
        await cloud.call("createVlanIpRange", vlan="100", startip="198.51.100.10", **public)
    await cloud.call("createVlanIpRange", vlan="102", startip="198.51.100.10", **public)
    [pod] = (await cloud.call("listPods"))["pod"]
    storage = {
        "podid": pod["id"],
        "netmask": "255.255.255.0",
        "gateway": "10.12.9.1",
        "startip": "10.12.9.10",
    }
    job = await cloud.job("createStorageNetworkIpRange", vlan="101", **storage)
    assert "VLAN 101 of label cloudbr3 is of networks of accounts" in str(job.result)
