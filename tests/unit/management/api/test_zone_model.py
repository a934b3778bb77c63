# SPDX-License-Identifier: Apache-2.0
"""Zones are made, changed and deleted by commands; what cannot be is refused by its parameter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve, frozen

from model_commands import job, refused
from small_cloud import SmallCloud
from systemvm.host.bridges import HostNetwork, parse_vlans
from systemvm.management.api.errors import ApiError
from systemvm.management.api.failures import as_api_error
from systemvm.management.state import addresses, zones
from systemvm.management.state.address_ranges import list_ranges
from systemvm.management.state.events import rows as events
from systemvm.service.errors import SystemVmError

MANAGEMENT = {"gateway": "10.21.0.1", "netmask": "255.255.255.0"}
PUBLIC = {"gateway": "198.51.100.1", "netmask": "255.255.255.0"}


@frozen
class Made:
    """The ids of a zone that commands have made."""

    zone: str
    pod: str
    network: str


async def make_zone(cloud: SmallCloud, name: str = "zone2") -> Made:
    """Make a zone with the traffic types Management and Public."""
    zone = (await cloud.call("createZone", name=name, dns1="192.0.2.53", internaldns1="10.21.0.2"))["zone"]
    network = await job(cloud, "createPhysicalNetwork", zoneid=zone["id"], name="physical1")
    physical = network["physicalnetwork"]["id"]
    for kind, label in (("Management", "cloudbr1"), ("Public", "cloudbr0")):
        await job(
            cloud, "addTrafficType", physicalnetworkid=physical, traffictype=kind, kvmnetworklabel=label
        )
    pod = (await cloud.call("createPod", zoneid=zone["id"], name="pod1", **MANAGEMENT))["pod"]
    return Made(zone["id"], pod["id"], physical)


@pytest_twisted.ensureDeferred
async def test_a_whole_zone_is_made_and_enabled_by_commands(cloud: SmallCloud) -> None:
    made = await make_zone(cloud)
    [before] = (await cloud.call("listZones", name="zone2"))["zone"]
    assert before["allocationstate"] == "Disabled"
    await job(
        cloud, "createManagementNetworkIpRange", podid=made.pod, startip="10.21.0.100", endip="10.21.0.199",
        **MANAGEMENT,
    )  # fmt: skip
    added = await cloud.call(
        "createVlanIpRange", zoneid=made.zone, vlan="untagged", startip="198.51.100.10",
        endip="198.51.100.20", **PUBLIC,
    )  # fmt: skip
    assert added["vlan"]["cidr"] == "198.51.100.0/24"
    cluster = await cloud.call(
        "addCluster", zoneid=made.zone, podid=made.pod, clustername="cluster1", hypervisor="KVM"
    )
    second = cloud.database.run_now(
        zones.host_rows.insert,
        name="host2",
        arch="amd64",
        address="10.21.0.5",
        hypervisor="KVM",
        zone_id=None,
    )
    host = await cloud.call("addHost", zoneid=made.zone, podid=made.pod, hypervisor="KVM", url="http://host2")
    assert (host["host"][0]["id"], host["host"][0]["zonename"]) == (second.uuid, "zone2")
    zone = (await cloud.call("updateZone", id=made.zone, allocationstate="Enabled"))["zone"]
    assert zone["allocationstate"] == "Enabled"

    [pod] = (await cloud.call("listPods", zoneid=made.zone))["pod"]
    assert (pod["startip"], pod["endip"]) == (["10.21.0.100"], ["10.21.0.199"])
    [pool] = (await cloud.call("listStoragePools", zoneid=made.zone))["storagepool"]
    assert pool["clusterid"] == cluster["cluster"]["id"]
    kinds = (await cloud.call("listTrafficTypes", physicalnetworkid=made.network))["traffictype"]
    assert [(kind["traffictype"], kind["kvmnetworklabel"]) for kind in kinds] == [
        ("Management", "cloudbr1"),
        ("Public", "cloudbr0"),
    ]
    seen = cloud.configuration.zone("zone2")
    assert str(seen.networks.management.cidr) == "10.21.0.0/24"
    assert seen.console.origin == "https://*:8443"
    recorded = [event.type for event in cloud.database.run_now(events.all)]
    assert recorded[:2] == ["ZONE.CREATE", "PHYSICAL.NETWORK.CREATE"]


@pytest_twisted.ensureDeferred
async def test_a_zone_is_deleted_part_by_part(cloud: SmallCloud) -> None:
    made = await make_zone(cloud)
    error = await refused(cloud, "deleteZone", id=made.zone)
    assert "1 pod: pod1" in error.message
    assert (await cloud.call("deletePod", id=made.pod))["success"] is True
    for kind in (await cloud.call("listTrafficTypes", physicalnetworkid=made.network))["traffictype"]:
        await job(cloud, "deleteTrafficType", id=kind["id"])
    assert (await job(cloud, "deletePhysicalNetwork", id=made.network))["success"] is True
    await cloud.call("deleteZone", id=made.zone)
    assert (await cloud.call("listZones", name="zone2")).get("zone", []) == []
    assert "zone2" not in cloud.configuration.current
    again = await make_zone(cloud)  # the name is free
    assert again.zone != made.zone


@pytest_twisted.ensureDeferred
async def test_a_zone_with_a_pool_or_a_volume_is_not_deleted(cloud: SmallCloud, tmp_path: Path) -> None:
    zone = (await cloud.call("createZone", name="zone2", dns1="192.0.2.53", internaldns1="10.21.0.2"))["zone"]
    url = f"SharedMountPoint://localhost{tmp_path}"
    made = await cloud.call("createStoragePool", name="shared", zoneid=zone["id"], scope="zone", url=url)
    assert "1 storage pool: shared" in (await refused(cloud, "deleteZone", id=zone["id"])).message
    await cloud.call("deleteStoragePool", id=made["storagepool"]["id"])
    volume = (await job(cloud, "createVolume", name="data", size=1, zoneid=zone["id"]))["volume"]
    assert "1 volume: data" in (await refused(cloud, "deleteZone", id=zone["id"])).message
    await cloud.call("deleteVolume", id=volume["id"])
    assert (await cloud.call("deleteZone", id=zone["id"]))["success"] is True


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((), "it has no pod"),
        (("pod",), "it has no cluster"),
        (("pod", "cluster"), "it has no host"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_incomplete_zone_cannot_be_enabled(
    cloud: SmallCloud, parts: tuple[str, ...], message: str
) -> None:
    zone = (await cloud.call("createZone", name="zone2", dns1="192.0.2.53", internaldns1="10.21.0.2"))["zone"]
    if "pod" in parts:
        pod = (await cloud.call("createPod", zoneid=zone["id"], name="pod1", **MANAGEMENT))["pod"]
    if "cluster" in parts:
        await cloud.call("addCluster", zoneid=zone["id"], podid=pod["id"], clustername="c", hypervisor="KVM")
    error = await refused(cloud, "updateZone", id=zone["id"], allocationstate="Enabled")
    assert message in error.message
    assert error.hint


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"gateway": "10.21.0"}, "gateway"),
        ({"gateway": "10.21.0.0"}, "gateway"),
        ({"gateway": "224.0.0.1"}, "gateway"),
        ({"netmask": "255.0.255.0"}, "netmask"),
        ({"netmask": "24"}, "netmask"),
        ({"netmask": "0.0.0.255"}, "netmask"),
        ({"netmask": "255.255.255.255"}, "netmask"),
        ({"startip": "10.22.0.5"}, "startip"),
        ({"startip": "10.21.0.0"}, "startip"),
        ({"endip": "10.21.1.5"}, "endip"),
        ({"startip": "10.21.0.50", "endip": "10.21.0.40"}, "endip"),
        ({"startip": "10.21.0.1"}, "startip"),
        ({"startip": "", "endip": "10.21.0.40"}, "startip"),
        ({"name": "   "}, "name"),
        ({"name": "n" * 256}, "name"),
        (
            {"gateway": "10.11.0.1", "startip": "10.11.0.30", "endip": "10.11.0.40"},
            "netmask",
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_wrong_pod_is_refused_by_its_parameter(
    cloud: SmallCloud, change: dict[str, str], parameter: str
) -> None:
    name = "zone1" if change.get("gateway") == "10.11.0.1" else "zone2"
    if name == "zone2":
        await cloud.call("createZone", name="zone2", dns1="192.0.2.53", internaldns1="10.21.0.2")
    [zone] = (await cloud.call("listZones", name=name))["zone"]
    given = {"name": "pod9", **MANAGEMENT, "startip": "10.21.0.30", "endip": "10.21.0.40", **change}
    error = await refused(cloud, "createPod", zoneid=zone["id"], **given)
    assert error.message.startswith(f"{parameter}: ")
    assert as_api_error(error, "request").body["parameter"] == parameter
    assert (await cloud.call("listPods", zoneid=zone["id"], name="pod9")).get("pod", []) == []


@pytest_twisted.ensureDeferred
async def test_ranges_that_overlap_anything_are_refused(cloud: SmallCloud) -> None:
    made = await make_zone(cloud)

    async def public(start: str, end: str, **change: str) -> SystemVmError:
        given = {**PUBLIC, "startip": start, "endip": end, **change}
        return await refused(cloud, "createVlanIpRange", zoneid=made.zone, **given)

    await cloud.call(
        "createVlanIpRange", zoneid=made.zone, startip="198.51.100.10", endip="198.51.100.20", **PUBLIC
    )
    assert "overlaps 198.51.100.10" in (await public("198.51.100.20", "198.51.100.30")).message
    assert (
        "is not the gateway"
        in (await public("198.51.100.30", "198.51.100.40", gateway="198.51.100.2")).message
    )
    other_mask = await public("198.51.100.30", "198.51.100.40", netmask="255.255.0.0")
    assert "overlaps 198.51.100.0/24" in other_mask.message
    of_pod = await public("10.21.0.30", "10.21.0.40", gateway="10.21.0.1")
    assert "overlaps the management network 10.21.0.0/24 of pod pod1" in of_pod.message
    # zone1's public addresses are on the same bridge of this host
    of_zone1 = await public("203.0.113.150", "203.0.113.160", gateway="203.0.113.254")
    assert "overlaps 203.0.113.100–203.0.113.199" in of_zone1.message
    own = await public("203.0.113.1", "203.0.113.9", gateway="203.0.113.254")
    assert "this host's own address 203.0.113.1" in own.message


@pytest_twisted.ensureDeferred
async def test_what_is_used_cannot_be_deleted(cloud: SmallCloud) -> None:
    [found] = (await cloud.call("listVlanIpRanges"))["vlaniprange"]
    [of_public] = [
        each for each in cloud.database.run_now(list_ranges, cloud.zone.id) if each.uuid == found["id"]
    ]
    cloud.database.run_now(addresses.allocate_from, [of_public], vm_id=cloud.cpvm.id)
    error = await refused(cloud, "deleteVlanIpRange", id=found["id"])
    assert "in use: 1 address: 203.0.113.100" in error.message
    shrunk = await refused(cloud, "updateVlanIpRange", id=found["id"], startip="203.0.113.101")
    assert "203.0.113.100 would be outside" in shrunk.message
    grown = await cloud.call("updateVlanIpRange", id=found["id"], startip="203.0.113.90")
    assert grown["vlan"]["startip"] == "203.0.113.90"

    [pod] = (await cloud.call("listPods"))["pod"]
    [cluster] = (await cloud.call("listClusters"))["cluster"]
    assert "1 cluster" in (await refused(cloud, "deletePod", id=pod["id"])).message
    assert "1 host: host1" in (await refused(cloud, "deleteCluster", id=cluster["id"])).message
    assert "s-1-VM" in (await refused(cloud, "deleteHost", id=cloud.host.uuid)).message
    [public] = [
        network
        for network in (await cloud.call("listPhysicalNetworks"))["physicalnetwork"]
        if network["name"] == "cloudbr0"
    ]
    assert "public" in (await refused(cloud, "deletePhysicalNetwork", id=public["id"])).message
    [kind] = (await cloud.call("listTrafficTypes", physicalnetworkid=public["id"]))["traffictype"]
    assert "203.0.113.90–203.0.113.199" in (await refused(cloud, "deleteTrafficType", id=kind["id"])).message
    assert "has a file" in (await refused(cloud, "deleteZone", id=cloud.zone.uuid)).message


@pytest_twisted.ensureDeferred
async def test_a_range_of_management_addresses_is_changed(cloud: SmallCloud) -> None:
    made = await make_zone(cloud)
    pod = {"podid": made.pod}
    for first, last in (("10.21.0.100", "10.21.0.119"), ("10.21.0.150", "10.21.0.159")):
        await job(cloud, "createManagementNetworkIpRange", **pod, startip=first, endip=last, **MANAGEMENT)
    present = {"currentstartip": "10.21.0.100", "currentendip": "10.21.0.119"}
    command = "updatePodManagementNetworkIpRange"
    for wrong, parameter in (
        ({"newendip": "10.21.0.150"}, "newendip"),  # of the other range
        ({"newstartip": "10.21.0.120"}, "newstartip"),  # behind its end
        ({"newendip": "10.22.0.119"}, "newendip"),
        ({"newendip": "10.21.0.99"}, "newendip"),
        ({"newstartip": "10.21.0.1"}, "newstartip"),  # the gateway
        ({"currentstartip": "10.21.0.101"}, "currentstartip"),
    ):
        why = await refused(cloud, command, **pod, **present | wrong)
        assert why.message.startswith(f"{parameter}: "), why.message
    assert (await job(cloud, command, **pod, **present, newstartip="10.21.0.90"))["success"] is True
    moved = present | {"currentstartip": "10.21.0.90"}
    await job(cloud, command, **pod, **moved, newendip="10.21.0.139")
    [listed] = (await cloud.call("listPods", id=made.pod))["pod"]
    spans = dict(zip(listed["startip"], listed["endip"], strict=True))
    assert spans == {"10.21.0.90": "10.21.0.139", "10.21.0.150": "10.21.0.159"}


@pytest_twisted.ensureDeferred
async def test_labels_are_those_of_this_host(cloud: SmallCloud) -> None:
    made = await make_zone(cloud)
    unknown = await refused(
        cloud, "addTrafficType", physicalnetworkid=made.network, traffictype="Storage", kvmnetworklabel="br9"
    )
    assert unknown.message == "kvmnetworklabel: this host has no network with the label br9"
    wrong = {"physicalnetworkid": made.network, "traffictype": "Storage", "kvmnetworklabel": "br9"}
    ended = await cloud.job("addTrafficType", **wrong)
    assert ended.result["parameter"] == "kvmnetworklabel"
    assert "cloudbr1" in unknown.hint
    twice = await refused(
        cloud,
        "addTrafficType",
        physicalnetworkid=made.network,
        traffictype="Public",
        kvmnetworklabel="cloudbr0",
    )
    assert twice.message.startswith("traffictype: ")
    without = await refused(
        cloud, "createStorageNetworkIpRange", podid=made.pod, gateway="10.22.0.1", netmask="255.255.255.0",
        startip="10.22.0.10", endip="10.22.0.20",
    )  # fmt: skip
    assert "no physical network carries storage traffic" in without.message


@pytest_twisted.ensureDeferred
async def test_a_label_whose_bridge_cannot_be_made_is_refused_with_the_reason(cloud: SmallCloud) -> None:
    made = await make_zone(cloud)
    why = SystemVmError("Open vSwitch does not run on this host", 'run "systemctl start openvswitch-switch"')
    labels = cloud.configuration.labels
    network = HostNetwork.of("br-ex", ["storage"])
    labels["br-ex"] = evolve(network, unusable=why)
    wanted = {"physicalnetworkid": made.network, "traffictype": "Storage", "kvmnetworklabel": "br-ex"}
    error = await refused(cloud, "addTrafficType", **wanted)
    assert error.message == f"kvmnetworklabel: network br-ex of this host cannot be used: {why.message}"
    assert error.hint == why.hint
    labels["br-ex"] = network
    added = await job(cloud, "addTrafficType", **wanted)
    assert added["traffictype"]["kvmnetworklabel"] == "br-ex"


@pytest_twisted.ensureDeferred
async def test_vlans_of_ranges_are_those_of_the_label(cloud: SmallCloud) -> None:
    made = await make_zone(cloud)
    span = {"zoneid": made.zone, "startip": "198.51.100.10", "endip": "198.51.100.20", **PUBLIC}
    none = await refused(cloud, "createVlanIpRange", vlan="100", **span)
    assert none.message == "vlan: 100 is not a VLAN of label cloudbr0 on this host, which has none"
    assert "add 100 to vlans of the label in host.yaml" in none.hint
    give_vlans(cloud, "cloudbr0", "100", "200-299")
    other = await refused(cloud, "createVlanIpRange", vlan="300", **span)
    assert other.message.endswith("which has 100, 200-299")
    for wrong in ("1", "4095", "x", "²", "0010099"):
        why = await refused(cloud, "createVlanIpRange", vlan=wrong, **span)
        assert why.message == f"vlan: {wrong} is not a VLAN"
    added = (await cloud.call("createVlanIpRange", vlan="vlan://200", **span))["vlan"]
    assert added["vlan"] == "vlan://200"
    [listed] = (await cloud.call("listVlanIpRanges", vlan="vlan://200"))["vlaniprange"]
    assert listed["id"] == added["id"]
    # the same network is in one VLAN only
    second = {**span, "startip": "198.51.100.30", "endip": "198.51.100.40"}
    twice = await refused(cloud, "createVlanIpRange", vlan="100", **second)
    assert twice.message == "vlan: network 198.51.100.0/24 of zone zone2 is in VLAN 200"
    assert (await cloud.call("createVlanIpRange", vlan="200", **second))["vlan"]["vlan"] == "vlan://200"
    # VNC servers are untagged, and so are guests but those of a network in a VLAN
    management = await refused(
        cloud, "createManagementNetworkIpRange", podid=made.pod, vlan="100", startip="10.21.0.10",
        endip="10.21.0.20", **MANAGEMENT,
    )  # fmt: skip
    assert management.message.startswith("vlan: 100 cannot be the VLAN of management addresses")
    guest = await refused(cloud, "createVlanIpRange", vlan="100", forvirtualnetwork=False, **span)
    assert "is no guest network in VLAN 100" in guest.message
    # a label without the VLAN cannot carry the traffic any more
    [kind] = [
        each
        for each in (await cloud.call("listTrafficTypes", physicalnetworkid=made.network))["traffictype"]
        if each["traffictype"] == "Public"
    ]
    moved = await refused(cloud, "updateTrafficType", id=kind["id"], kvmnetworklabel="cloudbr1")
    assert (
        moved.message == "kvmnetworklabel: 200 is not a VLAN of label cloudbr1 on this host, which has none"
    )


@pytest_twisted.ensureDeferred
async def test_a_guest_network_without_addresses_has_none_in_the_answer(cloud: SmallCloud) -> None:
    made = await make_zone(cloud)
    guest = {"traffictype": "Guest", "kvmnetworklabel": "cloudbr3"}
    await job(cloud, "addTrafficType", physicalnetworkid=made.network, **guest)
    subnet = {"gateway": "10.77.0.1", "netmask": "255.255.255.0"}
    place = {"zoneid": made.zone, "forvirtualnetwork": "false"}
    added = (await cloud.call("createVlanIpRange", **place, **subnet))["vlan"]
    assert added.items() >= subnet.items()
    assert added.keys().isdisjoint({"startip", "endip"})
    ends = {"startip": "10.77.0.10", "endip": "10.77.0.20"}
    changed = (await cloud.call("updateVlanIpRange", id=added["id"], **ends))["vlan"]
    assert changed.items() >= ends.items()


@pytest_twisted.ensureDeferred
async def test_an_empty_label_is_cleared(cloud: SmallCloud) -> None:
    made = await make_zone(cloud)
    created = await job(cloud, "createPhysicalNetwork", zoneid=made.zone, name="cloudbr0")
    physical = created["physicalnetwork"]
    wanted = {"kvmnetworklabel": "cloudbr3", "xennetworklabel": "xen", "vmwarenetworklabel": "dvs"}
    added = await job(
        cloud, "addTrafficType", physicalnetworkid=physical["id"], traffictype="Guest", **wanted
    )
    assert added["traffictype"].items() >= wanted.items()
    emptied = await job(
        cloud, "updateTrafficType", id=added["traffictype"]["id"], **dict.fromkeys(wanted, "")
    )
    assert emptied["traffictype"]["kvmnetworklabel"] == "cloudbr0"
    assert emptied["traffictype"].keys().isdisjoint({"xennetworklabel", "vmwarenetworklabel"})


def give_vlans(cloud: SmallCloud, label: str, *vlans: str) -> None:
    """Have the host's network of a label carry VLANs, as host.yaml says it."""
    labels = cloud.configuration.labels
    labels[label] = evolve(labels[label], vlans=parse_vlans(vlans))


@pytest_twisted.ensureDeferred
async def test_a_zone_that_comes_and_goes_leaves_the_first_one_alone(cloud: SmallCloud) -> None:
    before = cloud.configuration.zone("zone1")
    made = await make_zone(cloud)
    renamed = await cloud.call("updateZone", id=made.zone, name="zone3", dns2="192.0.2.54", dns1="192.0.2.53")
    assert renamed["zone"]["dns2"] == "192.0.2.54"
    moved = await cloud.call("updateZone", id=made.zone, dns1="192.0.2.55")
    assert (moved["zone"]["dns1"], moved["zone"]["dns2"]) == ("192.0.2.55", "192.0.2.54")
    cleared = await cloud.call("updateZone", id=made.zone, dns2="")
    assert (cleared["zone"]["dns1"], cleared["zone"].get("dns2")) == ("192.0.2.55", None)
    second = await cloud.call("updateZone", id=made.zone, dns2="192.0.2.53")
    assert (second["zone"]["dns1"], second["zone"]["dns2"]) == ("192.0.2.55", "192.0.2.53")
    assert "zone2" not in cloud.configuration.current
    assert cloud.configuration.zone("zone1") == before
    twice = await refused(cloud, "createZone", name="ZONE3", dns1="192.0.2.53", internaldns1="10.21.0.2")
    assert twice.message.startswith("name: ")


@pytest_twisted.ensureDeferred
async def test_users_change_no_zone(cloud: SmallCloud) -> None:
    with pytest.raises(ApiError, match="not available for user"):
        await cloud.call("deleteZone", cloud.user, id=cloud.zone.uuid)


@pytest_twisted.ensureDeferred
async def test_vms_are_deployed_with_an_offering_that_was_created(cloud: SmallCloud) -> None:
    created = await cloud.call("createServiceOffering", name="huge", cpunumber=4, memory=8192)
    huge = created["serviceoffering"]
    template, _ = cloud.add_template(name="tiny")
    await cloud.job(
        "deployVirtualMachine", name="one", zoneid=cloud.zone.uuid, templateid=template.uuid,
        serviceofferingid=huge["id"],
    )  # fmt: skip
    [vm] = (await cloud.call("listVirtualMachines", serviceofferingid=huge["id"]))["virtualmachine"]
    assert (vm["cpunumber"], vm["memory"], vm["serviceofferingname"]) == (4, 8192, "huge")
    renamed = await cloud.call("updateServiceOffering", id=huge["id"], name="vast")
    assert renamed["serviceoffering"]["name"] == "vast"
    await cloud.call("deleteServiceOffering", id=huge["id"])
    [after] = (await cloud.call("listVirtualMachines"))["virtualmachine"]
    assert (after["memory"], after["serviceofferingname"]) == (8192, "custom")
    assert (await cloud.call("listServiceOfferings", name="vast")).get("serviceoffering", []) == []


@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        ({"name": "small", "cpunumber": 3, "memory": 100}, "name"),
        ({"name": "x", "cpunumber": 0, "memory": 100}, "cpunumber"),
        ({"name": "x", "cpunumber": 65, "memory": 100}, "cpunumber"),
        ({"name": "x", "cpunumber": 1, "memory": 31}, "memory"),
        ({"name": "x", "cpunumber": 1, "memory": 512}, "memory"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_wrong_offering_is_refused_by_its_parameter(
    cloud: SmallCloud, given: dict[str, Any], parameter: str
) -> None:
    error = await refused(cloud, "createServiceOffering", **given)
    assert error.message.startswith(f"{parameter}: ")


@pytest_twisted.ensureDeferred
async def test_a_domain_of_another_form_is_refused(cloud: SmallCloud) -> None:
    servers = {"dns1": "192.0.2.53", "internaldns1": "10.21.0.2"}
    error = await refused(cloud, "createZone", name="zone2", domain="my_zone", **servers)
    assert error.message == "domain: 'my_zone' is not a domain"
    error = await refused(cloud, "updateZone", id=cloud.zone.uuid, domain="a b")
    assert error.message == "domain: 'a b' is not a domain"
    await cloud.call("updateZone", id=cloud.zone.uuid, domain="")


@pytest_twisted.ensureDeferred
async def test_texts_servers_and_vlans_are_cleared_by_an_empty_value(cloud: SmallCloud) -> None:
    made = await make_zone(cloud)
    given = {"description": "rooms", "domain": "example.test", "ip6dns1": "2001:db8::53"}
    await cloud.call("updateZone", id=made.zone, **given)
    await job(cloud, "updatePhysicalNetwork", id=made.network, vlan="200-210")
    cleared = (await cloud.call("updateZone", id=made.zone, **dict.fromkeys(given, "")))["zone"]
    assert [cleared.get(name) for name in given] == [None, None, None]
    changed = await job(cloud, "updatePhysicalNetwork", id=made.network, vlan="")
    assert not changed["physicalnetwork"].get("vlan")
