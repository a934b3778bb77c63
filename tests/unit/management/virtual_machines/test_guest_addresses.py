# SPDX-License-Identifier: Apache-2.0
"""Addresses of users' VMs: given once, served before the VM runs, and taken back when it is expunged."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
import pytest_twisted
from twisted.logger import capturedLogs

from small_cloud import SmallCloud
from systemvm.host.guest_filter import BoundGuest
from systemvm.host.guest_services import Guest
from systemvm.management.network_helper import NetworkError, NoHelperError
from systemvm.management.state import instances, zones
from systemvm.management.state.addresses import PoolExhaustedError
from systemvm.management.state.instances import Instance, Nic
from systemvm.management.state.status import InstanceState
from systemvm.management.virtual_machines.errors import NotDeployableError
from systemvm.management.zone_model.refusals import ModelError
from user_vms import deploy_by_api, deployment_parameters

ADDRESSES = {
    "forvirtualnetwork": "false",
    "gateway": "10.13.0.1",
    "netmask": "255.255.255.0",
    "startip": "10.13.0.50",
    "endip": "10.13.0.51",
}


async def add_addresses(cloud: SmallCloud) -> None:
    await cloud.call("createVlanIpRange", zoneid=cloud.zone.uuid, **ADDRESSES)


def served(cloud: SmallCloud) -> list[Guest]:
    """Return the machines that were last served."""
    return [
        guest for bridge in cloud.guest_services.served[-1] for net in bridge.subnets for guest in net.guests
    ]


def nic_of(cloud: SmallCloud, vm: Instance) -> Nic:
    [nic] = cloud.database.run_now(instances.nics_of, vm.id)
    return nic


@pytest_twisted.ensureDeferred
async def test_a_vm_has_an_address_of_the_guest_network(cloud: SmallCloud) -> None:
    await add_addresses(cloud)
    one = await deploy_by_api(cloud, name="one")
    [listed] = (await cloud.call("listVirtualMachines"))["virtualmachine"]
    [nic] = listed["nic"]
    assert (nic["ipaddress"], nic["netmask"], nic["gateway"]) == (
        "10.13.0.50",
        "255.255.255.0",
        "10.13.0.1",
    )
    assert served(cloud) == [Guest(nic_of(cloud, one).mac, IPv4Address("10.13.0.50"), "one", is_here=True)]
    port = f"t{one.uuid.replace('-', '')[:10]}-0"
    assert cloud.guest_services.bound == [BoundGuest(port, nic_of(cloud, one).mac, IPv4Address("10.13.0.50"))]
    [bridge] = cloud.guest_services.served[-1]
    assert bridge.bridge == "cloudbr3"
    [network] = (await cloud.call("listNetworks"))["network"]
    assert network["specifyipranges"] is True


@pytest_twisted.ensureDeferred
async def test_without_a_range_a_vm_has_no_address(cloud: SmallCloud) -> None:
    assert nic_of(cloud, await deploy_by_api(cloud, name="one")).address is None
    # once, because an earlier daemon can have left services
    assert cloud.guest_services.served == [[]]
    await cloud.guest_networks.update()
    assert cloud.guest_services.served == [[]]
    with pytest.raises(NotDeployableError, match="is not an address of the guest network"):
        await cloud.call("deployVirtualMachine", **await deployment_parameters(cloud, ipaddress="10.13.0.50"))


@pytest_twisted.ensureDeferred
async def test_a_vm_starts_in_a_zone_whose_domain_was_not_checked(cloud: SmallCloud) -> None:
    await add_addresses(cloud)
    cloud.database.run_now(zones.zone_rows.update, cloud.zone.id, network_domain="my_zone")
    assert (await deploy_by_api(cloud, name="one")).state is InstanceState.RUNNING
    [bridge] = cloud.guest_services.served[-1]
    assert [subnet.domain for subnet in bridge.subnets] == ["cloud.internal"]


@pytest.mark.parametrize("name", ["data-server", "Data-Server", "ignore", "infinite"])
@pytest_twisted.ensureDeferred
async def test_no_vm_has_a_name_of_the_networks_services(cloud: SmallCloud, name: str) -> None:
    with pytest.raises(NotDeployableError, match="guest network's DNS"):
        await cloud.call("deployVirtualMachine", **await deployment_parameters(cloud, name=name))


@pytest_twisted.ensureDeferred
async def test_a_host_without_guest_networks_needs_no_helper(cloud: SmallCloud) -> None:
    cloud.guest_services.error = NoHelperError("no answer", "")
    with capturedLogs() as logs:
        await cloud.guest_networks.update()
    assert [event for event in logs if event.get("bridge")] == []
    cloud.guest_services.error = None
    await cloud.guest_networks.update()
    assert cloud.guest_services.served == [[]]


@pytest_twisted.ensureDeferred
async def test_an_address_is_given_once_and_again_after_it_is_taken_back(cloud: SmallCloud) -> None:
    await add_addresses(cloud)
    one = await deploy_by_api(cloud, name="one", ipaddress="10.13.0.51")
    assert nic_of(cloud, one).address == "10.13.0.51"
    with pytest.raises(NotDeployableError, match="is the address of another virtual machine"):
        await cloud.call("deployVirtualMachine", **await deployment_parameters(cloud, ipaddress="10.13.0.51"))
    two = await deploy_by_api(cloud, name="two")
    assert nic_of(cloud, two).address == "10.13.0.50"
    with pytest.raises(PoolExhaustedError):
        await cloud.call("deployVirtualMachine", **await deployment_parameters(cloud))
    # a destroyed VM can be recovered, and has its address as long
    await cloud.job("destroyVirtualMachine", id=one.uuid)
    with pytest.raises(PoolExhaustedError):
        await cloud.call("deployVirtualMachine", **await deployment_parameters(cloud))
    await cloud.job("expungeVirtualMachine", id=one.uuid)
    assert [guest.name for guest in served(cloud)] == ["two"]
    assert nic_of(cloud, await deploy_by_api(cloud, name="three")).address == "10.13.0.51"


@pytest.mark.parametrize("address", ["10.13.0.49", "10.11.0.100", "203.0.113.100"])
@pytest_twisted.ensureDeferred
async def test_an_address_of_another_network_is_refused(cloud: SmallCloud, address: str) -> None:
    await add_addresses(cloud)
    parameters = await deployment_parameters(cloud, ipaddress=address)
    with pytest.raises(NotDeployableError, match="is not an address of the guest network"):
        await cloud.call("deployVirtualMachine", **parameters)
    assert await cloud.call("listVirtualMachines") == {}


@pytest_twisted.ensureDeferred
async def test_an_address_must_be_one(cloud: SmallCloud) -> None:
    with pytest.raises(ModelError, match="ipaddress"):
        await cloud.call("deployVirtualMachine", **await deployment_parameters(cloud, ipaddress="x"))


@pytest_twisted.ensureDeferred
async def test_a_vm_starts_while_its_network_is_not_served_and_the_reason_is_logged_once(
    cloud: SmallCloud,
) -> None:
    await add_addresses(cloud)
    cloud.guest_services.error = NetworkError("no answer", "start it")
    with capturedLogs() as logs:
        assert (await deploy_by_api(cloud, name="one")).state is InstanceState.RUNNING
        await cloud.guest_networks.update()
    assert [event["why"] for event in logs if event.get("bridge")] == ["no answer; start it"]
    cloud.guest_services.error = None
    with capturedLogs() as logs:
        await cloud.guest_networks.update()
    assert [event["bridge"] for event in logs if event.get("bridge")] == ["all bridges"]
    assert [guest.name for guest in served(cloud)] == ["one"]
