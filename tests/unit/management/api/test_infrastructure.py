# SPDX-License-Identifier: Apache-2.0
"""Lists of a zone's parts agree with its file and its rows, and with each other's ids."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
import sqlalchemy as sa

from api_requests import NOWHERE, refusal
from model_commands import job
from small_cloud import SmallCloud
from small_cloud.rows import NETWORKS
from systemvm.management.api.errors import ErrorCode
from systemvm.management.state import addresses, host_load, schema
from systemvm.management.state.database import Connection
from systemvm.management.state.status import InstanceType
from user_vms import deploy_stopped


async def only(cloud: SmallCloud, command: str, kind: str, **parameters: Any) -> dict[str, Any]:
    [found] = (await cloud.call(command, **parameters))[kind]
    return dict(found)


@pytest_twisted.ensureDeferred
async def test_pod_cluster_and_pool_refer_to_one_another_and_their_zone(cloud: SmallCloud) -> None:
    pod = await only(cloud, "listPods", "pod")
    cluster = await only(cloud, "listClusters", "cluster", podid=pod["id"])
    pool = await only(cloud, "listStoragePools", "storagepool", clusterid=cluster["id"])
    assert pod["zoneid"] == cluster["zoneid"] == pool["zoneid"] == cloud.zone.uuid
    assert (pod["gateway"], pod["netmask"]) == ("10.11.0.1", "255.255.255.0")
    assert pool["podid"] == pod["id"]
    assert pool["state"] == "Up"
    assert pool["disksizetotal"] >= pool["disksizeused"] > 0


@pytest_twisted.ensureDeferred
async def test_ids_are_the_same_at_every_call(cloud: SmallCloud) -> None:
    for command, kind in (
        ("listPods", "pod"),
        ("listStoragePools", "storagepool"),
        ("listNetworks", "network"),
    ):
        assert (await only(cloud, command, kind))["id"] == (await only(cloud, command, kind))["id"]


@pytest_twisted.ensureDeferred
async def test_a_pool_whose_directory_is_gone_is_down(cloud: SmallCloud) -> None:
    cloud.primary.directory.rename(cloud.primary.directory.with_name("elsewhere"))
    pool = await only(cloud, "listStoragePools", "storagepool")
    assert pool["state"] == "Down"
    assert "disksizetotal" not in pool


@pytest_twisted.ensureDeferred
async def test_one_physical_network_per_bridge(cloud: SmallCloud) -> None:
    found = (await cloud.call("listPhysicalNetworks"))["physicalnetwork"]
    assert [each["name"] for each in found] == ["cloud0", "cloudbr1", "cloudbr0", "cloudbr3"]
    public = await only(cloud, "listVlanIpRanges", "vlaniprange")
    assert public["physicalnetworkid"] == found[2]["id"]
    assert (public["startip"], public["endip"]) == ("203.0.113.100", "203.0.113.199")
    assert NETWORKS.public is not None
    assert public["gateway"] == str(NETWORKS.public.router)


@pytest_twisted.ensureDeferred
async def test_another_zones_id_finds_nothing(cloud: SmallCloud) -> None:
    nowhere = "00000000-0000-4000-8000-000000000000"
    for command, kind in (
        ("listPods", "pod"),
        ("listClusters", "cluster"),
        ("listStoragePools", "storagepool"),
        ("listPhysicalNetworks", "physicalnetwork"),
        ("listVlanIpRanges", "vlaniprange"),
        ("listImageStores", "imagestore"),
        ("listHypervisors", "hypervisor"),
        ("listNetworks", "network"),
        ("listVolumes", "volume"),
        ("listPublicIpAddresses", "publicipaddress"),
    ):
        assert (await cloud.call(command, zoneid=nowhere)).get(kind, []) == [], command


@pytest_twisted.ensureDeferred
async def test_image_stores_and_hypervisors_are_listed(cloud: SmallCloud) -> None:
    store = await only(cloud, "listImageStores", "imagestore", provider="nfs")
    assert (store["id"], store["url"], store["readonly"]) == (cloud.store.uuid, cloud.store.url, False)
    assert (await cloud.call("listImageStores", readonly=True)).get("imagestore", []) == []
    assert (await only(cloud, "listHypervisors", "hypervisor"))["name"] == "KVM"


@pytest_twisted.ensureDeferred
async def test_public_addresses_are_those_of_system_vms(cloud: SmallCloud) -> None:
    vm = cloud.add_system_vm(InstanceType.CONSOLE_PROXY)
    public = NETWORKS.public
    first = public.pool.first if public and public.pool else None
    assert first is not None

    def take(connection: sa.Connection) -> None:
        connection.execute(sa.delete(schema.ip_addresses).where(schema.ip_addresses.c.vm_id == vm.id))
        addresses.allocate(
            connection, zone_id=cloud.zone.id, traffic_type="public", first=first, last=first, vm_id=vm.id
        )

    await cloud.database.run(take)
    assert (await cloud.call("listPublicIpAddresses")).get("publicipaddress", []) == []
    found = await cloud.call("listPublicIpAddresses", forsystemvms=True, virtualmachineid=vm.uuid)
    [address] = found["publicipaddress"]
    assert (address["ipaddress"], address["issystem"]) == ("203.0.113.100", True)
    of_user = await cloud.call("listPublicIpAddresses", cloud.user, forsystemvms=True)
    assert of_user.get("publicipaddress", []) == []


@pytest_twisted.ensureDeferred
async def test_volumes_are_shown_to_their_account(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template(name="tiny")
    [offering] = (await cloud.call("listServiceOfferings", name="tiny"))["serviceoffering"]
    await cloud.job(
        "deployVirtualMachine",
        name="one",
        zoneid=cloud.zone.uuid,
        templateid=template.uuid,
        serviceofferingid=offering["id"],
    )
    volume = await only(cloud, "listVolumes", "volume")
    [machine] = (await cloud.call("listVirtualMachines"))["virtualmachine"]
    assert volume["virtualmachineid"] == machine["id"]
    assert (volume["vmname"], volume["type"], volume["templateid"]) == ("one", "ROOT", template.uuid)
    assert volume["size"] == 1 << 20  # the template's
    assert (await only(cloud, "listVolumes", "volume", virtualmachineid=machine["id"]))["id"] == volume["id"]
    assert (await cloud.call("listVolumes", cloud.user, listall=True)).get("volume", []) == []


@pytest_twisted.ensureDeferred
async def test_hosts_are_listed_by_their_pod_and_cluster(cloud: SmallCloud) -> None:
    host = await only(cloud, "listHosts", "host", type="Routing")
    for key in ("podid", "clusterid"):
        assert await only(cloud, "listHosts", "host", **{key: host[key]}) == host
        assert await cloud.call("listHosts", **{key: cloud.zone.uuid}) == {}


@pytest_twisted.ensureDeferred
async def test_an_agent_has_the_address_of_its_system_vm(cloud: SmallCloud) -> None:
    vm = cloud.add_system_vm(InstanceType.CONSOLE_PROXY)
    host = await only(cloud, "listHosts", "host", name=vm.instance_name)
    [listed] = (await cloud.call("listSystemVms", id=vm.uuid))["systemvm"]
    assert host.get("ipaddress") == listed["privateip"] == f"10.11.0.{100 + vm.id}"


@pytest_twisted.ensureDeferred
async def test_a_zone_has_the_shared_offering_when_it_carries_guest_traffic(cloud: SmallCloud) -> None:
    made = (await cloud.call("createZone", name="zone2", dns1="192.0.2.53", internaldns1="192.0.2.53"))[
        "zone"
    ]
    network = await job(cloud, "createPhysicalNetwork", zoneid=made["id"], name="second")
    assert await cloud.call("listNetworkOfferings", zoneid=made["id"]) == {}
    physical = {"physicalnetworkid": network["physicalnetwork"]["id"], "kvmnetworklabel": "cloudbr3"}
    await job(cloud, "addTrafficType", traffictype="Guest", **physical)
    offering = await only(cloud, "listNetworkOfferings", "networkoffering", zoneid=made["id"])
    assert offering["guestiptype"] == "Shared"


@pytest_twisted.ensureDeferred
async def test_lists_of_what_is_not_here_are_empty_and_check_their_owner(cloud: SmallCloud) -> None:
    for command in (
        "listSSHKeyPairs",
        "listSecurityGroups",
        "listAffinityGroups",
        "listProjects",
        "listVPCs",
        "listPortForwardingRules",
        "listIpForwardingRules",
    ):
        assert await cloud.call(command, cloud.user, listall="true") == {}, command
        error = await refusal(cloud, command, cloud.user, account="admin", domainid=cloud.admin.domain.uuid)
        assert error.code is ErrorCode.UNAUTHORIZED, command


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("command", ["listServiceOfferings", "listDiskOfferings"])
async def test_offerings_are_those_of_every_account_that_the_caller_can_use(
    cloud: SmallCloud, command: str
) -> None:
    everything = await cloud.call(command, cloud.user)
    own = {"account": cloud.user.account.name, "domainid": cloud.user.domain.uuid}
    for named in (own, {"domainid": own["domainid"], "isrecursive": "true"}, {"projectid": "-1"}):
        assert await cloud.call(command, cloud.user, **named) == everything
        assert await cloud.call(command, **named) == everything
    error = await refusal(cloud, command, cloud.user, account="admin", domainid=own["domainid"])
    assert error.code is ErrorCode.UNAUTHORIZED


@pytest_twisted.ensureDeferred
async def test_a_volume_is_made_by_the_first_disk_offering(cloud: SmallCloud) -> None:
    offering = await only(cloud, "listDiskOfferings", "diskoffering", name="custom")
    assert (offering["iscustomized"], offering["disksize"]) == (True, 0)
    job = await cloud.job("createVolume", size=1, diskofferingid=offering["id"])
    assert job.result["volume"]["size"] == 1 << 30
    error = await refusal(cloud, "createVolume", size=1, diskofferingid=NOWHERE)
    assert "diskofferingid" in error.message


@pytest_twisted.ensureDeferred
async def test_no_list_refuses_listall_or_the_id_of_every_project(cloud: SmallCloud) -> None:
    """CloudMonkey adds the one to each list, Terraform's provider the other to those of accounts."""
    for command in cloud.table:
        names = {parameter.name for parameter in command.all_parameters}
        if command.name.startswith("list"):
            assert "listall" in names, command.name
    assert (await cloud.call("listNetworks", projectid="-1"))["count"] == 1
    error = await refusal(cloud, "listNetworks", projectid=NOWHERE)
    assert "projectid" in error.message


@pytest_twisted.ensureDeferred
async def test_network_cards_are_those_of_the_vm(cloud: SmallCloud) -> None:
    vm, other = await deploy_stopped(cloud, cloud.user), await deploy_stopped(cloud)
    [machine] = (await cloud.call("listVirtualMachines", cloud.user))["virtualmachine"]
    [nic] = machine["nic"]
    which = {"virtualmachineid": vm.uuid}
    assert await cloud.call("listNics", cloud.user, **which) == {"count": 1, "nic": [nic | which]}
    for more in ({"nicid": nic["id"]}, {"networkid": nic["networkid"]}, {"keyword": nic["macaddress"][:8]}):
        assert (await cloud.call("listNics", cloud.user, **which, **more))["count"] == 1
    for more in ({"nicid": NOWHERE}, {"networkid": NOWHERE}, {"keyword": "nothing"}):
        assert await cloud.call("listNics", cloud.user, **which, **more) == {}
    error = await refusal(cloud, "listNics", cloud.user, virtualmachineid=other.uuid)
    assert error.code is ErrorCode.UNAUTHORIZED
    error = await refusal(cloud, "listNics", virtualmachineid=cloud.ssvm.uuid)
    assert error.code is ErrorCode.PARAMETER


@pytest_twisted.ensureDeferred
async def test_a_zone_has_the_offering_of_its_guest_network(cloud: SmallCloud) -> None:
    network = await only(cloud, "listNetworks", "network")
    offering = await only(cloud, "listNetworkOfferings", "networkoffering")
    assert (offering["id"], offering["name"]) == (
        network["networkofferingid"],
        network["networkofferingname"],
    )
    filters = {"id": offering["id"], "guestiptype": "shared", "zoneid": cloud.zone.uuid, "forvpc": "false"}
    for name, value in filters.items():
        assert (await cloud.call("listNetworkOfferings", cloud.user, **{name: value}))["count"] == 1
    for name, value in {"id": NOWHERE, "guestiptype": "Isolated", "forvpc": "true"}.items():
        assert await cloud.call("listNetworkOfferings", cloud.user, **{name: value}) == {}


@pytest_twisted.ensureDeferred
async def test_ranges_say_how_many_of_their_addresses_are_in_use(cloud: SmallCloud) -> None:
    public = await only(cloud, "listVlanIpRanges", "vlaniprange", forvirtualnetwork="true")

    def allocate(connection: sa.Connection) -> None:
        vm = connection.scalar(sa.select(schema.vm_instances.c.id)) or 0
        for kind, text in (
            ("public", public["endip"]),
            ("public", "198.51.100.1"),
            ("guest", public["startip"]),
        ):
            row = {"zone_id": cloud.zone.id, "traffic_type": kind, "address": text, "vm_id": vm}
            connection.execute(schema.ip_addresses.insert().values(row))

    await cloud.database.run(allocate)
    after = await only(cloud, "listVlanIpRanges", "vlaniprange", forvirtualnetwork="true")
    assert after["addressesused"] == public["addressesused"] + 1, "one is of no range, one of another network"
    assert after["addressestotal"] == public["addressestotal"] > after["addressesused"]
    pod = await only(cloud, "listPods", "pod")
    assert (pod["addressesused"], pod["addressestotal"]) == (0, 0), "it has no range"


@pytest_twisted.ensureDeferred
async def test_ranges_are_found_by_their_addresses_and_ordered_by_number(cloud: SmallCloud) -> None:
    net = {"gateway": "203.0.113.1", "netmask": "255.255.255.0"}
    for first in ("203.0.113.20", "203.0.113.9"):
        await cloud.call("createVlanIpRange", zoneid=cloud.zone.uuid, startip=first, **net)

    async def listed(**wanted: str) -> list[str]:
        found = (await cloud.call("listVlanIpRanges", **wanted)).get("vlaniprange", [])
        return [each["startip"] for each in found]

    rising = ["203.0.113.9", "203.0.113.20", "203.0.113.100"]
    assert await listed(sortby="startip") == rising
    assert await listed(sortby="startip", sortorder="desc") == rising[::-1]
    assert await listed(keyword="113.199") == ["203.0.113.100"], "its last address"
    assert await listed(keyword="no such address") == []


@pytest_twisted.ensureDeferred
async def test_traffic_types_are_listed_of_a_network_of_a_zone_or_of_all(cloud: SmallCloud) -> None:
    async def listed(**wanted: str) -> list[str]:
        found = (await cloud.call("listTrafficTypes", **wanted)).get("traffictype", [])
        assert {each["zonename"] for each in found} <= {cloud.zone.name}
        return [each["traffictype"] for each in found]

    everything = await listed()
    assert {"Management", "Public", "Guest", "Control"} <= set(everything)
    assert await listed(zoneid=cloud.zone.uuid) == everything
    assert await listed(zoneid=NOWHERE) == []
    assert await listed(sortby="traffictype") == sorted(everything)
    assert await listed(keyword="cloudbr0") == ["Public"]
    public = (await cloud.call("listTrafficTypes", keyword="public"))["traffictype"][0]
    assert await listed(physicalnetworkid=public["physicalnetworkid"]) == ["Public"]


@pytest_twisted.ensureDeferred
async def test_a_host_has_the_load_of_the_machines_that_run_there(cloud: SmallCloud) -> None:
    before = await only(cloud, "listHosts", "host", type="Routing")
    await deploy_stopped(cloud)
    after = await only(cloud, "listHosts", "host", type="Routing")
    assert after["virtualmachines"] == before["virtualmachines"] + 1
    assert after["vcpusallocated"] == before["vcpusallocated"] >= 2, (
        "the system VMs run, the new one does not"
    )
    assert after["memoryallocatedbytes"] == before["memoryallocatedbytes"] > 0
    assert (after["podname"], after["clustername"]) != (None, None)


def test_the_load_of_hosts_is_summed_from_an_index(cloud: SmallCloud) -> None:
    """SQLite's plan names the index that has all columns: there can be 10,000 machines."""
    plans: list[str] = []

    def explain(connection: Connection) -> None:
        read: list[tuple[str, Any]] = []
        sa.event.listen(connection, "before_cursor_execute", lambda *given: read.append(given[2:4]))
        host_load.by_host(connection)
        for statement, parameters in list(read):
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(str(row[-1]) for row in rows)

    cloud.database.run_now(explain)
    [plan] = plans
    assert "COVERING INDEX ix_vm_instances_load" in plan
