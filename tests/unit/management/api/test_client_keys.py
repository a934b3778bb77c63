# SPDX-License-Identifier: Apache-2.0
"""Keys that Libcloud, Ansible's modules and the Terraform provider read, beside those of what they list."""

from __future__ import annotations

from typing import Any

import pytest_twisted

from small_cloud import SmallCloud
from user_vms import deploy_running


async def only(cloud: SmallCloud, command: str, key: str, **parameters: Any) -> dict[str, Any]:
    [row] = (await cloud.call(command, **parameters))[key]
    return dict(row)


@pytest_twisted.ensureDeferred
async def test_a_machine_has_the_operating_system_of_its_template(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template(owner=cloud.user)
    vm = await deploy_running(cloud, cloud.user, template)
    listed = await only(cloud, "listTemplates", "template", templatefilter="all", id=template.uuid)
    machine = await only(cloud, "listVirtualMachines", "virtualmachine", id=vm.uuid, listall="true")
    assert machine["ostypeid"] == machine["guestosid"] == listed["ostypeid"]
    assert machine["osdisplayname"] == listed["ostypename"]
    assert (machine["affinitygroup"], machine["securitygroup"]) == ([], [])
    assert machine["deleteprotection"] is False
    [nic] = machine["nic"]
    assert nic["secondaryip"] == []
    assert "virtualmachineid" not in nic, "CloudStack has it in listNics only"
    volume = await only(cloud, "listVolumes", "volume", virtualmachineid=vm.uuid, listall="true")
    assert (volume["displayvolume"], volume["deleteprotection"]) == (True, False)
    size = ("serviceofferingid", "serviceofferingname")
    assert [volume[key] for key in size] == [machine[key] for key in size]


@pytest_twisted.ensureDeferred
async def test_a_network_has_the_name_servers_of_its_zone_and_what_its_offering_says(
    cloud: SmallCloud,
) -> None:
    network = await only(cloud, "listNetworks", "network")
    zone = await only(cloud, "listZones", "zone")
    offering = await only(cloud, "listNetworkOfferings", "networkoffering")
    assert (network["dns1"], network.get("dns2")) == (zone["dns1"], zone.get("dns2"))
    assert network["networkofferingavailability"] == offering["availability"] == "Required"
    assert network["ispersistent"] == offering["ispersistent"]
    assert network["restartrequired"] is False


@pytest_twisted.ensureDeferred
async def test_offerings_say_when_they_were_made_and_what_they_are_not(cloud: SmallCloud) -> None:
    made = await cloud.call("createServiceOffering", name="wide", cpunumber="3", memory="3072")
    size = made["serviceoffering"]
    assert size["created"]
    for key in ("limitcpuuse", "isvolatile", "iscustomizediops", "dynamicscalingenabled"):
        assert (key, size[key]) == (key, False)
    disk = await only(cloud, "listDiskOfferings", "diskoffering")
    assert (disk["displayoffering"], disk["iscustomizediops"]) == (True, False)


@pytest_twisted.ensureDeferred
async def test_an_event_has_the_domain_of_its_account_and_whether_it_is_archived(cloud: SmallCloud) -> None:
    await cloud.call("createUserKey", cloud.user, name="first")
    [event] = (await cloud.call("listEvents", cloud.user))["event"]
    domain = cloud.user.domain
    assert (event["domainid"], event["domain"], event["archived"]) == (domain.uuid, domain.name, False)
    await cloud.call("archiveEvents", cloud.user, ids=event["id"])
    [kept] = (await cloud.call("listEvents", cloud.user, archived="true"))["event"]
    assert (kept["id"], kept["archived"]) == (event["id"], True)


@pytest_twisted.ensureDeferred
async def test_a_host_has_the_memory_of_its_machines_by_both_of_cloudstacks_names(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template(owner=cloud.user)
    vm = await deploy_running(cloud, cloud.user, template)
    host = await only(cloud, "listHosts", "host", type="Routing")
    assert host["memoryallocated"] == host["memoryallocatedbytes"] >= vm.memory_mib * 2**20
