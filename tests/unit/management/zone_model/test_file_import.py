# SPDX-License-Identifier: Apache-2.0
"""A zone's file is imported once, and services see afterwards what the file says."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import msgspec
import pytest
import pytest_twisted

from prepared_database import open_first_start
from systemvm.host.config_file import ConfigError, load, to_yaml
from systemvm.host.host_file import FILE_NAME
from systemvm.host.layout import Layout
from systemvm.host.zone import AddressRange, NetworkConfig, NetworksConfig, ZoneConfig
from systemvm.management import config as configuration_files
from systemvm.management import samples
from systemvm.management.config import Configuration, ManagementConfig
from systemvm.management.foundation import open_foundation
from systemvm.management.inventory import write_inventory
from systemvm.management.state import address_ranges, physical_networks, pods, storage_pools, zones
from systemvm.management.state.database import Database
from systemvm.management.zone_model.catalog import ZoneCatalog
from systemvm.management.zone_model.file_import import part_id

SAMPLE = load(Path(samples.__file__).with_name("zone.yaml"), ZoneConfig)
CONTROL = NetworkConfig(
    "cloud0",
    IPv4Network("169.254.0.0/16"),
    IPv4Address("169.254.0.1"),
    pool=AddressRange(IPv4Address("169.254.0.2"), IPv4Address("169.254.3.254")),
)
#: Everything that a network can have, and everything that it can lack.
WHOLE = NetworkConfig(
    "cloudbr0",
    IPv4Network("203.0.113.0/24"),
    IPv4Address("203.0.113.1"),
    gateway=IPv4Address("203.0.113.254"),
    pool=AddressRange(IPv4Address("203.0.113.100"), IPv4Address("203.0.113.199")),
    uplink="eth0",
    cidr6=IPv6Network("2001:db8:2::/64"),
    gateway6=IPv6Address("fe80::1"),
)
BARE = NetworkConfig("cloudbr1", IPv4Network("10.11.0.0/24"))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.make()
    return layout


@pytest.fixture
def database(layout: Layout) -> Iterator[Database]:
    database = open_first_start(layout.database, layout.pki)
    yield database
    database.close()


def start(layout: Layout, database: Database, *files: ZoneConfig) -> Configuration:
    """Write the files, and do what a daemon does with them when it starts."""
    for path in layout.zones.glob("*.yaml"):
        path.unlink()
    for zone in files:
        (layout.zones / f"{zone.name}.yaml").write_text(to_yaml(zone))
    read = configuration_files.read(layout)
    configuration = Configuration(layout, ManagementConfig(host_name="host1"), read.zones, read.labels)
    database.run_now(write_inventory, configuration)
    database.run_now(ZoneCatalog(configuration).load)
    return configuration


def normal(zone: ZoneConfig) -> ZoneConfig:
    """Return the zone with the defaults of its file written out."""
    networks = {
        kind.value: msgspec.structs.replace(network, gateway=network.router)
        for kind, network in zone.networks.by_type().items()
    }
    return msgspec.structs.replace(
        zone, networks=NetworksConfig(**networks), internal_dns=zone.internal_dns or zone.dns
    )


@pytest.mark.parametrize(
    "zone",
    [
        SAMPLE,
        ZoneConfig("whole", NetworksConfig(CONTROL, BARE, WHOLE, guest=WHOLE), [IPv4Address("192.0.2.1")]),
        ZoneConfig(
            "shared",
            NetworksConfig(
                CONTROL, WHOLE, storage=msgspec.structs.replace(BARE, bridge="cloudbr0", uplink="eth0")
            ),
            [IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")],
            internal_dns=[IPv4Address("10.11.0.2")],
            dns6=[IPv6Address("2001:db8::53")],
            domain="example.test",
            arch="arm64",
            description="a zone",
        ),
    ],
    ids=lambda zone: zone.name,
)
def test_services_see_all_of_a_file_from_the_rows(
    layout: Layout, database: Database, zone: ZoneConfig
) -> None:
    configuration = start(layout, database, zone)
    [file] = configuration.zones
    assert configuration.zone(zone.name) == normal(file)


def test_a_domain_of_another_form_is_refused(layout: Layout, database: Database) -> None:
    with pytest.raises(ConfigError, match="domain of zone"):
        start(layout, database, msgspec.structs.replace(SAMPLE, domain="-example_test"))
    assert database.run_now(pods.list_pods) == []


def test_parts_keep_the_ids_of_earlier_releases(layout: Layout, database: Database) -> None:
    start(layout, database, SAMPLE)
    [zone], [host] = database.run_now(zones.list_zones), database.run_now(zones.list_hosts)
    [pod], [cluster] = database.run_now(pods.list_pods), database.run_now(pods.list_clusters)
    [pool] = database.run_now(storage_pools.list_pools)
    assert pod.uuid == part_id(zone.uuid, "pod")
    assert cluster.uuid == part_id(zone.uuid, "cluster")
    assert pool.uuid == part_id(host.uuid, "pool")
    assert (host.cluster_id, pool.host_id) == (cluster.id, host.id)
    networks = database.run_now(physical_networks.list_networks)
    assert [network.uuid for network in networks] == [
        part_id(zone.uuid, f"physical network {network.name}") for network in networks
    ]
    public = database.run_now(address_ranges.list_ranges, zone.id)[2]
    assert public.uuid == part_id(zone.uuid, "public range")


def test_a_second_start_imports_nothing_and_the_rows_are_the_truth(
    layout: Layout, database: Database
) -> None:
    start(layout, database, SAMPLE)
    before = database.run_now(address_ranges.list_ranges)
    other = msgspec.structs.replace(
        SAMPLE, dns=[IPv4Address("192.0.2.99")], networks=NetworksConfig(CONTROL, BARE)
    )
    configuration = start(layout, database, other)
    assert database.run_now(address_ranges.list_ranges) == before
    seen = configuration.zone(SAMPLE.name)
    assert seen.dns == SAMPLE.dns
    assert seen.networks.public is not None


def test_two_files_on_one_host_have_their_own_parts(layout: Layout, database: Database) -> None:
    second = msgspec.structs.replace(SAMPLE, name="zone2")
    start(layout, database, SAMPLE, second)
    assert [pod.name for pod in database.run_now(pods.list_pods)] == ["zone1-pod", "zone2-pod"]
    [host] = database.run_now(zones.list_hosts)
    assert host.zone_id == database.run_now(zones.list_zones)[0].id


def test_a_zone_keeps_its_networks_when_its_file_is_gone(layout: Layout, database: Database) -> None:
    start(layout, database, SAMPLE, msgspec.structs.replace(SAMPLE, name="zone2"))
    configuration = start(layout, database, SAMPLE)
    assert configuration.zone("zone2").networks.management.cidr == SAMPLE.networks.management.cidr
    assert [zone.origin for zone in database.run_now(zones.list_zones)] == ["file", "api"]


@pytest_twisted.ensureDeferred
async def test_a_daemon_starts_without_a_zone_when_its_host_is_described(layout: Layout) -> None:
    with pytest.raises(ConfigError, match=r"no \*.yaml describes a zone"):
        open_foundation(configuration_files.read(layout))
    (layout.etc / FILE_NAME).write_text(samples.read_sample("host.yaml"))
    foundation = open_foundation(configuration_files.read(layout))
    try:
        assert (foundation.host.zone_id, foundation.host.cluster_id) == (None, None)
        assert foundation.host.address == "10.11.0.1"
        assert dict(foundation.zone_names) == {}
        assert foundation.configuration.labels["cloudbr0"].bridge == "cloudbr0"
    finally:
        await foundation.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels: {a: {traffic_types: []}}", "at least one traffic type"),
        ("labels: {a: {traffic_types: [public], addresses: [10.0.0.1]}}", "no prefix length"),
        ("labels: {a: {traffic_types: [public], bridge: x/y}}", "not a bridge name"),
        (
            "labels: {a: {traffic_types: [public], bridge: b}, b: {traffic_types: [guest]}}",
            "two labels have the bridge b",
        ),
        ("label: {}", "unknown key"),
    ],
)
def test_a_wrong_host_file_is_an_error(layout: Layout, text: str, message: str) -> None:
    (layout.etc / FILE_NAME).write_text(text)
    with pytest.raises(ConfigError, match=message):
        configuration_files.read(layout)


def test_a_bridge_of_both_files_has_the_addresses_of_both(layout: Layout) -> None:
    (layout.zones / "zone1.yaml").write_text(to_yaml(SAMPLE))
    text = "labels: {outside: {traffic_types: [guest], bridge: cloudbr0, addresses: [198.51.100.1/24]}}"
    (layout.etc / FILE_NAME).write_text(text)
    labels = configuration_files.read(layout).labels
    assert set(labels) == {"cloud0", "cloudbr1", "cloudbr0", "outside", "cloudbr2", "cloudbr3"}
    assert labels["outside"] == labels["cloudbr0"]
    assert labels["outside"].traffic_types == ("public", "guest")
    assert [str(each) for each in labels["outside"].addresses] == ["203.0.113.1/24", "198.51.100.1/24"]
