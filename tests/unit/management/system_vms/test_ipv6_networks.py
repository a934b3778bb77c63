# SPDX-License-Identifier: Apache-2.0
"""System VMs of zones whose public and storage networks have IPv6 alone, and hosts of several pods."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest_twisted
import sqlalchemy as sa

from systemvm.guest import firewall, network
from systemvm.host.bridges import HostNetwork
from systemvm.host.zone import TrafficType
from systemvm.management.consoles.endpoint import public_address_of
from systemvm.management.inventory import ZoneSettings
from systemvm.management.own_networks import own_networks
from systemvm.management.pki.public import PublicAuthority
from systemvm.management.state import address_ranges, instances, pods, schema, zones
from systemvm.management.system_vms.boot_arguments import BootFacts, cmdline
from systemvm.management.zone_model import places, ranges
from systemvm.management.zone_model.catalog import ZoneCatalog
from systemvm.management.zone_model.subnets import read_subnet
from systemvm.management.zone_model.subnets6 import read_subnet6
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire import boot_arguments

IPV6 = {
    TrafficType.PUBLIC: ("2001:db8:1::/64", "fe80::1", "2001:db8:1::100", "2001:db8:1::ffff:ffff:ffff"),
    TrafficType.STORAGE: ("fd00:12::/64", "fd00:12::1", "fd00:12::100", "fd00:12::1ff"),
}


def arguments_of(host: Any, name: str) -> dict[str, str]:
    spec = host.hypervisor.specs[name]
    return boot_arguments.parse(spec.credentials[boot_arguments.CMDLINE_CREDENTIAL].decode())


def change_networks(host: Any) -> None:
    """Give public and storage networks ranges of IPv6 instead of IPv4, and their store such a server."""

    def change(connection: sa.Connection) -> None:
        zone = zones.zone_by_id(connection, 1)
        labels = host.configuration.labels
        for kind, values in IPV6.items():
            for each in address_ranges.list_ranges(connection, zone.id, kind):
                ranges.delete_range(connection, each)
            ranges.add_range(connection, zone, kind, read_subnet6(*values), labels)
        url = "nfs://[fd00:99::2]/export/secondary"
        connection.execute(schema.image_stores.update().values(url=url))

    host.database.run_now(change)
    host.database.run_now(ZoneCatalog(host.configuration).load)


async def booted(host: Any, name: str) -> dict[str, str]:
    """Return the boot arguments of a system VM, with the stores of the rows."""
    vm = await host.vm(name)
    nics = await host.database.read(instances.nics_of, vm.id)
    stores = [store.wire for store in await host.database.read(zones.list_stores)]
    facts = BootFacts(
        host.configuration.zone("zone1"), 1, host.configuration.management.control, "ssh-ed25519 AAAA",
        own_networks(host.configuration), stores=stores,
    )  # fmt: skip
    return boot_arguments.parse(cmdline(vm, nics, facts))


@pytest_twisted.ensureDeferred
async def test_a_guest_on_networks_of_ipv6_alone(host: Any) -> None:
    change_networks(host)
    await host.reconciler.scan()
    arguments = await booted(host, "s-1-VM")
    expected = {
        "eth2ip": "0.0.0.0",
        "eth2ip6": "2001:db8:1::100",
        "eth2ip6prelen": "64",
        "ip6gateway": "fe80::1",
        "eth3ip6": "fd00:12::100",
        "storagegateway": "fd00:12::1",
        "secondaryStorageServerAddress": "fd00:99::2",
        "gateway": None,
        "storageip": None,
    }
    assert {key: arguments.get(key) for key in expected} == expected
    macs = [mac for mac in arguments["nic_macs"].split("|") if mac]
    assert len(set(macs)) == 4

    planned = network.make_plan(arguments)
    assert planned.public is not None and planned.storage is not None
    assert [str(each) for each in planned.public.addresses] == ["2001:db8:1::100/64"]
    assert [str(each) for each in planned.storage.addresses] == ["fd00:12::100/64"]
    routes = {str(route.destination): (str(route.gateway), route.device) for route in planned.routes}
    assert routes["None"] == ("fe80::1", "eth2")
    assert routes["fd00:99::2/128"] == ("fd00:12::1", "eth3")
    filled = firewall.sets(planned, arguments)
    assert IPv6Network("fd00:99::2/128") in filled["nfs_servers"]
    denied = filled["fetch_denied"]
    for own in ("2001:db8:1::100/128", "2001:db8:1::ffff:ffff:ffff/128", "fd00:12::/64", "fd00:99::2/128"):
        wanted = IPv6Network(own)
        assert any(each.version == 6 and wanted.subnet_of(each) for each in denied), own
    mirror = IPv6Network("2001:db8:1::10/128")
    assert not any(each.version == 6 and mirror.overlaps(each) for each in denied)


@pytest_twisted.ensureDeferred
async def test_consoles_and_their_certificate_have_the_ipv6_address(host: Any, tmp_path: Any) -> None:
    change_networks(host)
    await host.reconciler.scan()
    proxy = await host.vm("v-2-VM")
    address = await host.database.read(public_address_of, proxy)
    assert address == "2001:db8:1::101"
    [nic] = [
        each
        for each in await host.database.read(instances.nics_of, proxy.id)
        if each.traffic_type == TrafficType.PUBLIC.value
    ]
    assert (nic.address, nic.address6) == (None, "2001:db8:1::101/64")
    page = PublicEndpoint.parse("https://127.0.0.1")
    configuration = host.configuration
    public = PublicAuthority.open(
        tmp_path, configuration.current.values(), page, configuration.outside_networks.values()
    )
    assert public.permits(address)
    assert not public.permits("2001:db8:2::101")
    assert not public.permits("203.0.113.101")


@pytest_twisted.ensureDeferred
async def test_the_host_of_a_second_pod_has_its_screens_there(host: Any) -> None:
    labels = dict(host.configuration.labels)
    labels["cloudbr1"] = HostNetwork.of("cloudbr1", ["management"], "10.11.0.1/24", "10.21.0.5/24")
    host.configuration.labels.update(labels)

    def move(connection: sa.Connection) -> None:
        """Put this host into a second pod."""
        zone = zones.zone_by_id(connection, 1)
        subnet = read_subnet("10.21.0.1", "255.255.255.0", "10.21.0.100", "10.21.0.199")
        pod = places.create_pod(connection, zone, host.configuration.labels, name="pod2", subnet=subnet)
        cluster = places.add_cluster(connection, pod, name="c2", hypervisor="KVM", arch=None)
        zones.host_rows.update(connection, host.host_id, cluster_id=cluster.id)

    catalog = ZoneCatalog(host.configuration)
    settings = ZoneSettings(host.configuration, None)  # type: ignore[arg-type]
    host.database.run_now(catalog.load)
    assert settings.vnc_address("zone1") == "10.11.0.1"
    host.database.run_now(move)
    host.database.run_now(catalog.load)
    assert settings.vnc_address("zone1") == "10.21.0.5"
    assert host.configuration.management_networks["zone1"] == [
        IPv4Network("10.11.0.0/24"),
        IPv4Network("10.21.0.0/24"),
    ]


@pytest_twisted.ensureDeferred
async def test_a_cpvm_reaches_the_hosts_of_other_pods(host: Any) -> None:
    await host.reconciler.scan()
    vm = await host.vm("v-2-VM")
    nics = await host.database.read(instances.nics_of, vm.id)
    of_pods = [IPv4Network("10.11.0.0/24"), IPv4Network("10.21.0.0/24")]
    facts = BootFacts(
        host.configuration.zone("zone1"), 1, host.configuration.management.control, "ssh-ed25519 AAAA",
        management_networks=of_pods,
    )  # fmt: skip
    arguments = boot_arguments.parse(cmdline(vm, nics, facts))
    assert arguments["mgmtcidr"] == "10.11.0.0/24,10.21.0.0/24"
    planned = network.make_plan(arguments)
    to_other = [route for route in planned.routes if str(route.destination) == "10.21.0.0/24"]
    assert [(str(route.gateway), route.device) for route in to_other] == [("10.11.0.1", "eth1")]
    # its firewall permits VNC there
    assert set(firewall.sets(planned, arguments)["management_cidr"]) == set(of_pods)
    assert await host.database.read(pods.list_pods, 1)
