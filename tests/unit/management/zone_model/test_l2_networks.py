# SPDX-License-Identifier: Apache-2.0
"""L2 guest networks: a VLAN of an account's own, without addresses of the cloud; VMs have config drives."""

from __future__ import annotations

import base64
from ipaddress import IPv4Interface
from typing import Any

import pytest
import pytest_twisted

from account_networks import VLANS, change_label, create_network, guest_traffic, set_vlans
from drive_reader import files_on
from model_commands import job, refused
from present import present
from small_cloud import SmallCloud
from systemvm.host.bridges import BridgeKind
from systemvm.host.guest_vlans import GuestLink
from systemvm.host.zone import TrafficType
from systemvm.management.api.zone_parts import isolated_offering_of, l2_offering_of
from systemvm.management.hypervisors.qemu_arguments import tap_name
from systemvm.management.state import address_ranges, instances
from systemvm.management.state.columns import now
from systemvm.management.state.instances import Instance
from systemvm.management.virtual_machines.errors import NotDeployableError
from systemvm.management.zone_model.refusals import ModelError
from user_vms import add_addresses, deployment_parameters

SCRIPT = b"#cloud-config\n"
ENCODED = base64.b64encode(SCRIPT).decode()


@pytest.fixture
def cloud(cloud: SmallCloud) -> SmallCloud:
    """A cloud whose label of guest traffic has VLANs, and no subnets for isolated networks."""
    change_label(cloud, **VLANS)
    set_vlans(cloud, "100-101")
    return cloud


async def create(cloud: SmallCloud, name: str, **more: Any) -> dict[str, Any]:
    offering = {"networkofferingid": l2_offering_of(cloud.zone).id}
    return await create_network(cloud, name, **offering | more)


async def deploy(cloud: SmallCloud, name: str, *networks: str, **more: Any) -> Instance:
    template, _ = cloud.add_template(public=True, password_enabled=True)
    parameters = await deployment_parameters(
        cloud, template, name=name, networkids=",".join(networks), userdata=ENCODED, **more
    )
    job = await cloud.job("deployVirtualMachine", cloud.user, **parameters)
    assert job.result_code == 0, job.result
    return cloud.database.run_now(instances.by_uuid, present(job.instance_uuid))


@pytest_twisted.ensureDeferred
async def test_no_network_is_created_on_a_disabled_physical_network(cloud: SmallCloud) -> None:
    physical = (await guest_traffic(cloud))["id"]
    await job(cloud, "updatePhysicalNetwork", id=physical, state="Disabled")
    wanted = {"zoneid": cloud.zone.uuid, "name": "layer2", "networkofferingid": l2_offering_of(cloud.zone).id}
    why = await refused(cloud, "createNetwork", **wanted)
    assert why.message.endswith("its physical network of guest traffic, cloudbr3, is Disabled")
    await job(cloud, "updatePhysicalNetwork", id=physical, state="Enabled")
    await create(cloud, "layer2")


@pytest_twisted.ensureDeferred
async def test_guest_traffic_is_not_deleted_beneath_a_network_without_ranges(cloud: SmallCloud) -> None:
    network = await create(cloud, "layer2")
    listed = await cloud.call("listVlanIpRanges", forvirtualnetwork="false", withoutaddresses="true")
    for each in listed["vlaniprange"]:
        await cloud.call("deleteVlanIpRange", id=each["id"])
    [guest] = [
        each
        for each in (await cloud.call("listTrafficTypes"))["traffictype"]
        if each["traffictype"] == "Guest"
    ]
    why = await refused(cloud, "deleteTrafficType", id=guest["id"])
    assert why.message == "guest traffic is in use: 1 guest network: layer2"
    await job(cloud, "deleteNetwork", id=network["id"])
    await job(cloud, "deleteTrafficType", id=guest["id"])


@pytest_twisted.ensureDeferred
async def test_the_offering_has_cloudstacks_name_and_services(cloud: SmallCloud) -> None:
    name = "DefaultL2NetworkOfferingConfigDrive"
    [found] = (await cloud.call("listNetworkOfferings", cloud.user, name=name))["networkoffering"]
    assert found["displaytext"] == "Offering for L2 networks with config drive user data"
    assert (found["guestiptype"], found["specifyvlan"], found["specifyipranges"]) == ("L2", False, False)
    assert (found["availability"], found["ispersistent"]) == ("Optional", False)
    assert found["service"] == [{"name": "UserData", "provider": [{"name": "ConfigDrive"}]}]


@pytest_twisted.ensureDeferred
async def test_a_user_creates_a_network_without_addresses(cloud: SmallCloud) -> None:
    network = await create(cloud, "one", displaytext="The first")
    assert (network["type"], network["state"], network["acltype"]) == ("L2", "Allocated", "Account")
    assert (network["account"], network["networkofferingname"]) == ("users", l2_offering_of(cloud.zone).name)
    assert network["service"] == [{"name": "UserData", "provider": [{"name": "ConfigDrive"}]}]
    assert not network.keys() & {"cidr", "gateway", "netmask", "vlan"}
    [listed] = (await cloud.call("listNetworks", cloud.user, type="L2"))["network"]
    assert listed == network


@pytest_twisted.ensureDeferred
async def test_a_vm_on_it_has_a_vlan_and_a_drive_and_no_service(cloud: SmallCloud) -> None:
    network = await create(cloud, "one", networkdomain="one.test")
    vm = await deploy(cloud, "web", network["id"], password="First-17")
    spec = cloud.hypervisor.specs[vm.instance_name]
    assert [each.bridge for each in spec.nics] == ["cloudbr3-100"]
    files = files_on(spec)
    assert files["openstack/latest/user_data"] == SCRIPT
    assert files["cloudstack/password/vm_password.txt"] == b"First-17"
    assert files["cloudstack/metadata/public-hostname.txt"] == b"web.one.test"
    services = cloud.guest_services
    assert services.links == [GuestLink("cloudbr3", 100)]  # this host has no address in it
    assert (services.served, services.data, services.bound) == ([[]], {}, [])
    assert services.l2_ports == [tap_name(vm.uuid, 0)]
    [nic] = (await cloud.call("listVirtualMachines", cloud.user))["virtualmachine"][0]["nic"]
    assert (nic["type"], nic["networkname"], "ipaddress" in nic) == ("L2", "one", False)
    job = await cloud.job("restartNetwork", cloud.user, id=network["id"])
    assert job.result_code == 0, job.result
    # it gives the VLAN back when nothing runs on it
    await cloud.job("stopVirtualMachine", cloud.user, id=vm.uuid, forced="true")
    await cloud.guest_networks.update()
    [listed] = (await cloud.call("listNetworks", id=network["id"]))["network"]
    assert (listed["state"], "vlan" in listed) == ("Allocated", False)
    assert services.links == []
    # the filter follows though nothing is served
    again = await deploy(cloud, "again", network["id"])
    assert services.l2_ports == [tap_name(vm.uuid, 0), tap_name(again.uuid, 0)]


@pytest_twisted.ensureDeferred
async def test_no_vm_has_an_address_on_it(cloud: SmallCloud) -> None:
    network = await create(cloud, "one")
    template, _ = cloud.add_template(public=True)
    parameters = await deployment_parameters(cloud, template, networkids=network["id"], ipaddress="10.13.0.9")
    with pytest.raises(NotDeployableError, match="the cloud has no addresses on L2 network one"):
        await cloud.call("deployVirtualMachine", cloud.user, **parameters)


@pytest_twisted.ensureDeferred
async def test_the_first_nic_decides_how_a_vm_has_its_data(cloud: SmallCloud) -> None:
    await add_addresses(cloud)
    own = (await cloud.call("listNetworks", cloud.user))["network"][0]["id"]
    network = (await create(cloud, "one"))["id"]
    asks = await deploy(cloud, "asks", own, network)
    assert cloud.hypervisor.specs[asks.instance_name].config_drive is None
    reads = await deploy(cloud, "reads", network, own)
    spec = cloud.hypervisor.specs[reads.instance_name]
    files = files_on(spec)
    assert [nic.mac.encode() in files["openstack/latest/network_data.json"] for nic in spec.nics] == [
        True,
        True,
    ]
    # the filter of each port is that of its own network
    services = cloud.guest_services
    assert services.l2_ports == [tap_name(asks.uuid, 1), tap_name(reads.uuid, 0)]
    assert [guest.port for guest in services.bound] == [tap_name(asks.uuid, 0), tap_name(reads.uuid, 1)]
    assert "cloudstack/password/vm_password.txt" in files
    by_name = {data.items["local-hostname"]: data for data in cloud.guest_services.data.values()}
    assert (by_name["asks"].password is None, by_name["reads"].password is None) == (False, True)


@pytest_twisted.ensureDeferred
async def test_a_vm_is_on_another_network_unless_this_one_is_asked_for(cloud: SmallCloud) -> None:
    change_label(cloud, guest_cidr=IPv4Interface("10.1.0.0/16").network)
    await create(cloud, "one")
    isolated = await create(cloud, "two", networkofferingid=isolated_offering_of(cloud.zone).id)
    for each in cloud.database.run_now(address_ranges.list_ranges, cloud.zone.id, TrafficType.GUEST):
        if each.guest_network_id is None:  # the zone has no network of its own
            cloud.database.run_now(address_ranges.rows.update, each.id, removed=now())
    template, _ = cloud.add_template(public=True)
    job = await cloud.job("deployVirtualMachine", cloud.user, **await deployment_parameters(cloud, template))
    assert job.result_code == 0, job.result
    [vm] = (await cloud.call("listVirtualMachines", cloud.user))["virtualmachine"]
    assert [nic["networkid"] for nic in vm["nic"]] == [isolated["id"]]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"gateway": "10.1.0.1"}, "gateway: the cloud has no addresses on an L2 network"),
        ({"netmask": "255.255.255.0"}, "netmask: the cloud has no addresses"),
        ({"startip": "10.1.0.5"}, "startip: the cloud has no addresses"),
        ({"endip": "10.1.0.9"}, "endip: the cloud has no addresses"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_network_that_cannot_be_is_refused(
    cloud: SmallCloud, given: dict[str, str], why: str
) -> None:
    await create(cloud, "first")
    with pytest.raises(ModelError, match=why):
        await create(cloud, "second", **given)
    assert len((await cloud.call("listNetworks", cloud.user, type="L2"))["network"]) == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"vlans": frozenset()}, "has no VLANs for L2 networks on this host"),
        ({"vlans": frozenset({200})}, "has no VLANs for L2 networks on this host"),  # that of shared ones
        ({"kind": BridgeKind.OPENVSWITCH}, "is a bridge of Open vSwitch, which has no guest VLANs"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_host_that_cannot_have_one_says_so_and_has_no_offering(
    cloud: SmallCloud, changes: dict[str, Any], why: str
) -> None:
    change_label(cloud, **changes)
    assert await cloud.call("listNetworkOfferings", guestiptype="L2") == {}
    with pytest.raises(ModelError, match=why):
        await create(cloud, "one")


@pytest_twisted.ensureDeferred
async def test_a_zone_whose_physical_network_has_no_vlans_has_no_offering(cloud: SmallCloud) -> None:
    for vnet in (None, "200"):  # that of shared ones
        set_vlans(cloud, vnet)
        assert await cloud.call("listNetworkOfferings", guestiptype="L2") == {}
        with pytest.raises(ModelError, match="guest traffic has no VLANs of label cloudbr3"):
            await create(cloud, "one")
    set_vlans(cloud, "101")
    await create(cloud, "one")
