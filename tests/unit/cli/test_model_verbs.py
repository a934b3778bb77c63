# SPDX-License-Identifier: Apache-2.0
"""Verbs for a zone's model: parameters as NAME=VALUE, and names in the place of ids."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import Result

from fake_daemon import FakeDaemon
from systemvm.cli.zone_model import GROUPS, Verb

ZONE = {"zone": [{"id": "z-2", "name": "zone2", "allocationstate": "Disabled", "dns1": "192.0.2.53"}]}
POD = {"pod": [{"id": "p-1", "name": "pod1", "zonename": "zone2"}]}
NETWORK = {"physicalnetwork": [{"id": "n-1", "name": "physical1", "zonename": "zone2"}]}


def test_a_pod_is_created_in_a_named_zone(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(listZones=ZONE, createPod={"pod": POD["pod"][0]})
    span = ("gateway=10.11.0.1", "netmask=255.255.255.0")
    result = run(fake, "pod", "create", "pod1", "zone=zone2", *span)
    assert result.output.strip() == "p-1"
    expected = {"name": "pod1", "zoneid": "z-2", "gateway": "10.11.0.1", "netmask": "255.255.255.0"}
    assert fake.calls[-1] == ("createPod", expected)


def test_a_job_is_waited_for_and_its_object_is_shown(run: Callable[..., Result]) -> None:
    ended = {"jobstatus": 1, "jobresult": {"traffictype": {"id": "t-1", "traffictype": "Public"}}}
    fake = FakeDaemon(listPhysicalNetworks=NETWORK, addTrafficType={"jobid": "j"}, queryAsyncJobResult=ended)
    result = run(fake, "traffic", "add", "physical1", "traffictype=Public", "kvmnetworklabel=cloudbr0")
    assert result.output.strip() == "t-1"
    expected = {"physicalnetworkid": "n-1", "traffictype": "Public", "kvmnetworklabel": "cloudbr0"}
    assert ("addTrafficType", expected) in fake.calls


def test_a_guest_network_is_created_in_a_named_zone(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(listZones=ZONE, createNetwork={"network": {"id": "g-1", "name": "second"}})
    span = ("gateway=10.14.0.1", "netmask=255.255.255.0", "startip=10.14.0.10")
    assert run(fake, "guest-network", "create", "second", "zone=zone2", *span).output.strip() == "g-1"
    expected = {"name": "second", "zoneid": "z-2", **dict(each.split("=") for each in span)}
    assert fake.calls[-1] == ("createNetwork", expected)


def test_a_guest_network_is_created_by_a_named_offering(run: Callable[..., Result]) -> None:
    name = "DefaultL2NetworkOfferingConfigDrive"
    offerings = {"networkoffering": [{"id": "o-1", "name": "other"}, {"id": "o-2", "name": name}]}
    fake = FakeDaemon(
        listZones=ZONE, listNetworkOfferings=offerings, createNetwork={"network": {"id": "g-1", "name": "l2"}}
    )
    run(fake, "guest-network", "create", "l2", "zone=zone2", f"networkoffering={name}")
    assert fake.calls[-1] == ("createNetwork", {"name": "l2", "zoneid": "z-2", "networkofferingid": "o-2"})
    assert name in run(fake, "network-offering", "list").output


def test_hypervisors_are_listed_with_what_they_can_do(run: Callable[..., Result]) -> None:
    row = {
        "hypervisor": "XenServer",
        "runsmachines": False,
        "maxhostspercluster": 64,
        "console": "HTTPS CONNECT",
    }
    fake = FakeDaemon(listHypervisorCapabilities={"hypervisorCapabilities": [row]})
    output = run(fake, "hypervisor", "list").output
    assert [text in output for text in ("XenServer", "False", "64", "HTTPS CONNECT")] == [True] * 4


def test_an_object_is_named_for_its_deletion(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(listZones=ZONE, deleteZone={"success": True})
    assert run(fake, "zone", "delete", "zone2").output.strip() == "Done."
    assert fake.calls[-1] == ("deleteZone", {"id": "z-2"})


def test_rows_are_a_table(run: Callable[..., Result]) -> None:
    result = run(FakeDaemon(listZones=ZONE), "zone", "list")
    assert "ALLOCATIONSTATE" in result.output
    assert "Disabled" in result.output
    kinds = {"traffictype": [{"id": "t-1", "traffictype": "Public", "kvmnetworklabel": "cloudbr0"}]}
    fake = FakeDaemon(listPhysicalNetworks=NETWORK, listTrafficTypes=kinds)
    assert "cloudbr0" in run(fake, "traffic", "list", "physical1").output


def test_ranges_of_both_families_are_in_one_table(run: Callable[..., Result]) -> None:
    four = {"id": "r-4", "startip": "203.0.113.10", "endip": "203.0.113.20", "cidr": "203.0.113.0/24"}
    six = {"id": "r-6", "startipv6": "2001:db8::10", "endipv6": "2001:db8::ffff:1", "vlan": "vlan://untagged"}
    fake = FakeDaemon(listVlanIpRanges={"vlaniprange": [four, six]})
    _, *rows = (line.split() for line in run(fake, "range", "list").output.splitlines())
    assert fake.calls == [("listVlanIpRanges", {"withoutaddresses": "true"})]
    assert [row[:4] for row in rows] == [
        ["203.0.113.10", "203.0.113.20", "-", "-"],
        ["-", "-", "2001:db8::10", "2001:db8::ffff:1"],
    ]


def test_sizes_of_pools_are_readable(run: Callable[..., Result]) -> None:
    pool = {"id": "s-1", "name": "nfs1", "type": "NetworkFilesystem", "scope": "ZONE", "state": "Up"}
    sizes = {"disksizetotal": 3 << 40, "disksizeused": 1536 << 20, "disksizeallocated": 0}
    fake = FakeDaemon(listStoragePools={"storagepool": [pool | sizes | {"tags": "fast,ssd"}]})
    head, row = run(fake, "pool", "list").output.splitlines()
    assert head.split() == ["NAME", "TYPE", "SCOPE", "STATE", "SIZE", "USED", "ALLOCATED", "TAGS", "ID"]
    assert row.split() == [
        "nfs1", "NetworkFilesystem", "ZONE", "Up", "3.0", "TiB", "1.5", "GiB", "0", "B", "fast,ssd", "s-1",
    ]  # fmt: skip
    fake = FakeDaemon(listStoragePools={"storagepool": [pool]})
    assert run(fake, "pool", "list").output.splitlines()[1].split()[-5:] == ["-", "-", "-", "-", "s-1"]
    assert (
        '"disksizetotal": 3298534883328'
        in run(FakeDaemon(listStoragePools={"storagepool": [pool | sizes]}), "--json", "pool", "list").output
    )


def test_what_is_no_parameter_and_what_is_unknown_is_refused(run: Callable[..., Result]) -> None:
    result = run(FakeDaemon(), "zone", "create", "zone2", "dns1")
    assert result.exit_code == 2
    assert "NAME=VALUE" in result.output
    unknown = run(FakeDaemon(listZones=ZONE), "pod", "create", "pod1", "zone=zone9")
    assert "choose one of these: zone2" in unknown.output


@pytest.mark.parametrize(
    ("group", "verb"),
    [(group.name, verb) for group in GROUPS for verb in group.verbs],
    ids=lambda each: each.name if isinstance(each, Verb) else each,
)
def test_every_verb_explains_itself(run: Callable[..., Result], group: str, verb: Verb) -> None:
    result = run(FakeDaemon(), group, verb.name, "--help")
    assert result.exit_code == 0
    assert verb.command in result.output
    assert f"systemvm {group} {verb.name} {verb.example}" in result.output
