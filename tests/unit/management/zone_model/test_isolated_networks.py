# SPDX-License-Identifier: Apache-2.0
"""Isolated guest networks: each is of one account, and has a VLAN while a VM runs on it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import TYPE_CHECKING, Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.logger import capturedLogs

from present import present
from small_cloud import SmallCloud
from systemvm.host.guest_services import Guest
from systemvm.host.guest_vlans import GuestLink
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.api.principal import Principal
from systemvm.management.api.zone_parts import guest_network_offering_of, isolated_offering_of
from systemvm.management.guest_networks import vlans
from systemvm.management.guest_networks.nics import WantedNic
from systemvm.management.guest_networks.vlans import NO_BRIDGE, NoVlanError
from systemvm.management.network_helper import NetworkError
from systemvm.management.resource_limits.errors import ResourceLimitError
from systemvm.management.state import address_ranges, guest_networks, instances, machine_passwords
from systemvm.management.state.instances import Instance, Nic
from systemvm.management.virtual_machines.deployment import Deployment
from systemvm.management.virtual_machines.errors import NotDeployableError
from systemvm.management.zone_model.refusals import ModelError
from user_accounts import new_account
from user_vms import deployment_parameters

if TYPE_CHECKING:
    from small_cloud.cloud import EndedJob


@pytest.fixture
def cloud(cloud: SmallCloud) -> SmallCloud:
    """A cloud whose label of guest traffic has two VLANs for isolated networks, and one for a shared one."""
    labels: Any = cloud.configuration.labels
    labels["cloudbr3"] = evolve(
        labels["cloudbr3"],
        vlans=frozenset({100, 101, 200}),
        guest_cidr=IPv4Network("10.1.0.0/16"),
        vlan_addresses=((200, (IPv4Interface("10.20.0.2/24"),)),),
    )
    return cloud


async def give_vlans(cloud: SmallCloud, vlans: str = "100-101") -> None:
    networks = (await cloud.call("listPhysicalNetworks"))["physicalnetwork"]
    [guest] = [network for network in networks if network["name"] == "cloudbr3"]
    job = await cloud.job("updatePhysicalNetwork", id=guest["id"], vlan=vlans)
    assert job.result_code == 0, job.result


async def create(cloud: SmallCloud, name: str, owner: Principal | None = None, **more: Any) -> dict[str, Any]:
    answer = await cloud.call("createNetwork", owner or cloud.user, zoneid=cloud.zone.uuid, name=name, **more)
    found: dict[str, Any] = answer["network"]
    return found


async def deploy(cloud: SmallCloud, name: str, network: dict[str, Any], **more: Any) -> EndedJob:
    template, _ = cloud.add_template(public=True)
    parameters = await deployment_parameters(cloud, template, name=name, networkids=network["id"], **more)
    return await cloud.job("deployVirtualMachine", cloud.user, **parameters)


def vm_of(cloud: SmallCloud, job: EndedJob) -> Instance:
    assert job.result_code == 0, job.result
    return cloud.database.run_now(instances.by_uuid, present(job.instance_uuid))


def nic_of(cloud: SmallCloud, vm: Instance) -> Nic:
    [nic] = cloud.database.run_now(instances.nics_of, vm.id)
    return nic


async def listed(cloud: SmallCloud, network: dict[str, Any]) -> dict[str, Any]:
    """Return the network as an administrator sees it."""
    [found] = (await cloud.call("listNetworks", id=network["id"]))["network"]
    return dict(found)


@pytest_twisted.ensureDeferred
async def test_a_user_creates_a_network_in_a_free_subnet(cloud: SmallCloud) -> None:
    one, two = await create(cloud, "one"), await create(cloud, "two", displaytext="The second")
    assert [(net["cidr"], net["gateway"]) for net in (one, two)] == [
        ("10.1.0.0/24", "10.1.0.1"),
        ("10.1.1.0/24", "10.1.1.1"),
    ]
    assert (one["type"], one["state"], one["acltype"]) == ("Isolated", "Allocated", "Account")
    assert (one["account"], one["networkofferingname"]) == ("users", "DefaultIsolatedNetworkOffering")
    assert {service["name"] for service in one["service"]} == {"Dhcp", "Dns", "UserData"}
    assert "vlan" not in one
    assert "broadcasturi" not in one
    chosen = await create(cloud, "three", gateway="10.1.9.126", netmask="255.255.255.128")
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
    labels: Any = cloud.configuration.labels
    labels["cloudbr3"] = evolve(labels["cloudbr3"], guest_cidr=None, vlans=frozenset({200}))
    [shared] = (await cloud.call("listNetworkOfferings"))["networkoffering"]
    assert shared["guestiptype"] == "Shared"
    with pytest.raises(ModelError, match="set guest_cidr of the label cloudbr3"):
        await create(cloud, "one")


@pytest_twisted.ensureDeferred
async def test_a_network_has_a_vlan_while_a_vm_runs_on_it(cloud: SmallCloud) -> None:
    await give_vlans(cloud)
    network = await create(cloud, "one", networkdomain="one.test")
    vm = vm_of(cloud, await deploy(cloud, "web", network))
    found = await listed(cloud, network)
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
    found = await listed(cloud, network)
    assert (found["state"], "vlan" in found) == ("Allocated", False)
    assert cloud.guest_services.links == []
    assert cloud.guest_services.served[-1] == []
    await deploy(cloud, "other", await create(cloud, "two"))
    await cloud.job("startVirtualMachine", cloud.user, id=vm.uuid)
    assert (await listed(cloud, network))["vlan"] == "101"
    assert nic_of(cloud, vm).bridge == "cloudbr3-101"


@pytest_twisted.ensureDeferred
async def test_subnets_are_read_once_for_all_networks(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    await give_vlans(cloud)
    for name in ("one", "two"):
        vm_of(cloud, await deploy(cloud, name, await create(cloud, name)))
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
    network = await create(cloud, "one")
    job = await deploy(cloud, "early", network)
    assert job.result_code == ErrorCode.INSUFFICIENT_CAPACITY
    assert "has no VLANs for isolated and L2 networks" in str(job.result)
    await give_vlans(cloud)
    for name in ("two", "three"):
        vm_of(cloud, await deploy(cloud, name, await create(cloud, name)))
    with pytest.raises(NoVlanError, match="all of 100-101 are in use"):
        await cloud.machines.start(cloud.database.run_now(instances.list_user)[0].id)
    found = await listed(cloud, network)
    assert (found["state"], "vlan" in found) == ("Allocated", False)


@pytest_twisted.ensureDeferred
async def test_a_vm_does_not_start_when_the_host_cannot_have_its_vlan(cloud: SmallCloud) -> None:
    await give_vlans(cloud)
    network = await create(cloud, "one")
    services = cloud.guest_services
    services.unlinked = {"cloudbr3-100": NetworkError("this host has no guest VLAN 100", "add it to vlans")}
    job = await deploy(cloud, "web", network)
    assert job.result_code == ErrorCode.RESOURCE_UNAVAILABLE
    assert "this host has no guest VLAN 100" in str(job.result)
    assert cloud.hypervisor.specs == {}
    assert (await listed(cloud, network))["state"] == "Implementing"
    # the next pass takes the VLAN back; the next start makes the network whole
    await cloud.guest_networks.update()
    assert (await listed(cloud, network))["state"] == "Allocated"
    services.unlinked = {}
    [vm] = (await cloud.call("listVirtualMachines", cloud.user))["virtualmachine"]
    assert (await cloud.job("startVirtualMachine", cloud.user, id=vm["id"])).result_code == 0
    assert (await listed(cloud, network))["state"] == "Implemented"


@pytest_twisted.ensureDeferred
async def test_a_helper_that_dies_in_the_middle_leaves_a_network_that_the_next_start_finishes(
    cloud: SmallCloud,
) -> None:
    await give_vlans(cloud)
    network = await create(cloud, "one")
    cloud.guest_services.link_error = NetworkError("network helper closed the connection", "")
    assert (await deploy(cloud, "web", network)).result_code == ErrorCode.RESOURCE_UNAVAILABLE
    assert (await listed(cloud, network))["vlan"] == "100"
    cloud.guest_services.link_error = None
    [vm] = (await cloud.call("listVirtualMachines", cloud.user))["virtualmachine"]
    assert (await cloud.job("startVirtualMachine", cloud.user, id=vm["id"])).result_code == 0
    found = await listed(cloud, network)
    assert (found["state"], found["vlan"]) == ("Implemented", "100")


@pytest_twisted.ensureDeferred
async def test_other_accounts_neither_see_nor_use_nor_change_a_network(cloud: SmallCloud) -> None:
    await give_vlans(cloud)
    network = await create(cloud, "one")
    eve = await new_account(cloud, "eve")
    own = await create(cloud, "one", eve)  # the name is free for another account
    for command in ("updateNetwork", "deleteNetwork", "restartNetwork"):
        with pytest.raises(ApiError) as refused:
            await cloud.call(command, eve, id=network["id"])
        assert refused.value.code is ErrorCode.UNAUTHORIZED
    for call in ({}, {"id": network["id"]}, {"listall": "true"}):
        ids = [each["id"] for each in (await cloud.call("listNetworks", eve, **call)).get("network", [])]
        assert network["id"] not in ids
    parameters = await deployment_parameters(
        cloud, cloud.add_template(public=True)[0], networkids=network["id"]
    )
    with pytest.raises(ApiError, match="Unable to find a network"):
        await cloud.call("deployVirtualMachine", eve, **parameters)
    # nor can an administrator's own VM be on it
    with pytest.raises(ApiError, match="Unable to find a network"):
        await cloud.call("deployVirtualMachine", **parameters)
    with pytest.raises(ApiError, match="only root administrators can create shared networks"):
        await create(cloud, "shared", eve, networkofferingid=guest_network_offering_of(cloud.zone).id)
    seen = (await cloud.call("listNetworks", listall="true", type="Isolated"))["network"]
    assert {each["id"] for each in seen} == {network["id"], own["id"]}
    assert (await cloud.job("deleteNetwork", id=own["id"])).result_code == 0


@pytest_twisted.ensureDeferred
async def test_an_administrator_creates_one_for_an_account(cloud: SmallCloud) -> None:
    network = await create(
        cloud,
        "one",
        cloud.admin,
        networkofferingid=isolated_offering_of(cloud.zone).id,
        account="users",
        domainid=cloud.user.domain.uuid,
    )
    assert network["account"] == "users"
    larger = await create(
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
        ({"vlan": "100"}, "gets one by itself"),
        ({"name": "FIRST"}, "is the name of another one"),
        ({"networkdomain": "a b"}, "is not a domain"),
        ({"networkofferingid": "5a8b6d3e-0000-4000-8000-000000000000"}, "is not an offering"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_network_that_cannot_be_is_refused(
    cloud: SmallCloud, given: dict[str, str], why: str
) -> None:
    await create(cloud, "first")
    with pytest.raises(ModelError, match=why):
        more: Any = {key: value for key, value in given.items() if key != "name"}
        await create(cloud, given.get("name", "second"), **more)
    assert len((await cloud.call("listNetworks", cloud.user, type="Isolated"))["network"]) == 1


@pytest_twisted.ensureDeferred
async def test_the_limit_of_networks_holds(cloud: SmallCloud) -> None:
    await cloud.call(
        "updateResourceLimit", resourcetype="6", max="1", account="users", domainid=cloud.user.domain.uuid
    )
    await create(cloud, "one")
    with pytest.raises(ResourceLimitError, match="Type = 'network'"):
        await create(cloud, "two")


@pytest_twisted.ensureDeferred
async def test_when_no_subnet_is_left_the_next_network_is_refused(cloud: SmallCloud) -> None:
    labels: Any = cloud.configuration.labels
    labels["cloudbr3"] = evolve(labels["cloudbr3"], guest_cidr=IPv4Network("10.1.0.0/25"))
    assert (await create(cloud, "one"))["cidr"] == "10.1.0.0/25"
    with pytest.raises(ModelError, match=r"no subnet of 10\.1\.0\.0/25 is free"):
        await create(cloud, "two")


@pytest_twisted.ensureDeferred
async def test_a_network_is_deleted_without_vms_and_its_vlan_is_free(cloud: SmallCloud) -> None:
    await give_vlans(cloud, "100")
    network = await create(cloud, "one")
    vm = vm_of(cloud, await deploy(cloud, "web", network))
    refused = await cloud.job("deleteNetwork", cloud.user, id=network["id"])
    assert "1 virtual machine: web" in str(refused.result)
    await cloud.job("destroyVirtualMachine", id=vm.uuid, expunge="true")
    assert (await cloud.job("deleteNetwork", cloud.user, id=network["id"])).result_code == 0
    again = await create(cloud, "one")
    assert again["cidr"] == network["cidr"]
    vm_of(cloud, await deploy(cloud, "next", again))
    assert (await listed(cloud, again))["vlan"] == "100"


@pytest_twisted.ensureDeferred
async def test_a_vm_of_a_network_that_is_deleted_meanwhile_is_refused(cloud: SmallCloud) -> None:
    await give_vlans(cloud)
    network = await create(cloud, "one")
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
async def test_vlans_of_a_physical_network_are_those_of_the_label(cloud: SmallCloud) -> None:
    await give_vlans(cloud, "100,101")
    networks = (await cloud.call("listPhysicalNetworks"))["physicalnetwork"]
    [guest] = [network for network in networks if network["name"] == "cloudbr3"]
    assert guest["vlan"] == "100-101"
    for wrong, why in (("100-102", "102 cannot be VLANs"), ("200", "200 cannot"), ("x", "is not a VLAN")):
        job = await cloud.job("updatePhysicalNetwork", id=guest["id"], vlan=wrong)
        assert why in str(job.result)
    network = await create(cloud, "one")
    vm_of(cloud, await deploy(cloud, "web", network))
    job = await cloud.job("updatePhysicalNetwork", id=guest["id"], vlan="101")
    assert job.result_code == ErrorCode.RESOURCE_IN_USE
    assert "1 network: one" in str(job.result)


@pytest_twisted.ensureDeferred
async def test_the_services_of_a_network_are_started_anew(cloud: SmallCloud) -> None:
    await give_vlans(cloud)
    network = await create(cloud, "one")
    assert (await cloud.job("restartNetwork", cloud.user, id=network["id"])).result_code == 0
    assert cloud.guest_services.stopped == []
    vm_of(cloud, await deploy(cloud, "web", network))
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
async def test_a_password_is_known_as_taken_before_the_network_loses_its_services(cloud: SmallCloud) -> None:
    await give_vlans(cloud)
    network = await create(cloud, "one")
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
    assert (await listed(cloud, network))["vlan"] == "100"
    services.taken_error, services.taken = None, [stored.uuid]
    services.link_error = NetworkError("the daemon is killed here", "")
    await cloud.guest_networks.update()
    assert present(cloud.database.run_now(machine_passwords.of_vm, vm.id)).sealed is None
    assert (await listed(cloud, network))["state"] == "Allocated"


@pytest_twisted.ensureDeferred
async def test_user_data_of_a_vm_whose_network_has_no_vlan_yet_waits(cloud: SmallCloud) -> None:
    await give_vlans(cloud)
    network = await create(cloud, "one")
    vm = vm_of(cloud, await deploy(cloud, "web", network, startvm="false"))
    assert nic_of(cloud, vm).bridge == NO_BRIDGE
    await cloud.guest_networks.update()
    with capturedLogs() as logs:
        await cloud.call("updateVirtualMachine", cloud.user, id=vm.uuid, userdata="SGVsbG8=")
    assert [event for event in logs if "why" in event] == []
    assert cloud.guest_services.data == {}
    assert (await cloud.job("startVirtualMachine", cloud.user, id=vm.uuid)).result_code == 0
    assert cloud.guest_services.data[IPv4Address("10.1.0.2")].user_data == b"Hello"


@pytest_twisted.ensureDeferred
async def test_networks_of_a_deleted_account_are_gone(cloud: SmallCloud) -> None:
    network = await create(cloud, "one")
    assert (await cloud.job("deleteAccount", id=cloud.user.account.uuid)).result_code == 0
    assert (await cloud.call("listNetworks", listall="true", type="Isolated")) == {}
    assert (await create(cloud, "two", cloud.admin, networkofferingid=isolated_offering_of(cloud.zone).id))[
        "cidr"
    ] == network["cidr"]


SHARED = {"gateway": "10.20.0.1", "netmask": "255.255.255.0", "startip": "10.20.0.10", "endip": "10.20.0.20"}


@pytest_twisted.ensureDeferred
async def test_a_shared_network_is_in_a_vlan_of_the_label(cloud: SmallCloud) -> None:
    network = await create(cloud, "shared", cloud.admin, vlan="200", **SHARED)
    assert (network["type"], network["state"], network["vlan"]) == ("Shared", "Setup", "200")
    vm = vm_of(cloud, await deploy(cloud, "web", network))
    assert nic_of(cloud, vm).bridge == "cloudbr3-200"
    assert cloud.guest_services.links == [GuestLink("cloudbr3", 200)]
    [bridge] = cloud.guest_services.served[-1]
    assert bridge.bridge == "cloudbr3-200"
    assert [guest.has_router for subnet in bridge.subnets for guest in subnet.guests] == [True]
    # a further range of the network is in the same VLAN
    more = SHARED | {"startip": "10.20.0.30", "endip": "10.20.0.40"}
    place = {"zoneid": cloud.zone.uuid, "forvirtualnetwork": "false"}
    await cloud.call("createVlanIpRange", vlan="200", **place, **more)
    with pytest.raises(ModelError, match="is in VLAN 200"):
        await cloud.call(
            "createVlanIpRange", **place, **more | {"startip": "10.20.0.50", "endip": "10.20.0.60"}
        )
    # its label stays, and the VLAN is its own
    traffic = (await cloud.call("listPhysicalNetworks"))["physicalnetwork"]
    [guest] = [each for each in traffic if each["name"] == "cloudbr3"]
    types = (await cloud.call("listTrafficTypes", physicalnetworkid=guest["id"]))["traffictype"]
    job = await cloud.job("updateTrafficType", id=types[0]["id"], kvmnetworklabel="cloudbr0")
    assert "1 network: shared in VLANs of it" in str(job.result)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"vlan": "300"}, "is not a VLAN of label cloudbr3"),
        ({"vlan": "100"}, "no address in 10.20.0.0/24 on VLAN 100"),
        ({"startip": "10.20.0.2"}, "own address 10.20.0.2"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_vlan_in_which_this_host_cannot_serve_is_refused(
    cloud: SmallCloud, change: dict[str, str], why: str
) -> None:
    with pytest.raises(ModelError, match=why):
        await create(cloud, "shared", cloud.admin, **{"vlan": "200"} | SHARED | change)
    place = {"zoneid": cloud.zone.uuid, "forvirtualnetwork": "false", "vlan": "200"}
    with pytest.raises(ModelError, match="create the network with createNetwork first"):
        await cloud.call("createVlanIpRange", **place, **SHARED)


@pytest_twisted.ensureDeferred
async def test_no_other_range_is_in_a_vlan_of_isolated_networks(cloud: SmallCloud) -> None:
    labels: Any = cloud.configuration.labels
    labels["cloudbr3"] = evolve(
        labels["cloudbr3"], vlans=frozenset({100, 101, 102}), traffic_types=("guest", "public", "storage"),
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
