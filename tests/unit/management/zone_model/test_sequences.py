# SPDX-License-Identifier: Apache-2.0
"""Any sequence of changes leaves the model consistent, whatever of it is refused."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from prepared_database import open_first_start
from systemvm.host.bridges import HostNetwork
from systemvm.host.layout import Layout
from systemvm.host.zone import TrafficType, ZoneConfig
from systemvm.management.config import Configuration, ManagementConfig
from systemvm.management.state import (
    address_ranges,
    instances,
    physical_networks,
    pods,
    schema,
    storage_pools,
    zones,
)
from systemvm.management.state.address_ranges import Span
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import InstanceState
from systemvm.management.system_vms.allocation import allocate
from systemvm.management.zone_model import places, ranges, traffic
from systemvm.management.zone_model import zones as model
from systemvm.management.zone_model.catalog import ZoneCatalog
from systemvm.management.zone_model.pools import PoolAddress, PoolPlace, create_pool, delete_pool
from systemvm.management.zone_model.refusals import ModelError
from systemvm.management.zone_model.subnets import read_subnet
from systemvm.management.zone_model.subnets6 import read_subnet6, with_ipv6
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.role import Role

LABELS = {
    network.bridge: network
    for network in (
        HostNetwork.of("cloud0", ["control"], "169.254.0.1/16"),
        HostNetwork.of("cloudbr1", ["management"], "10.0.0.1/24"),
        HostNetwork.of("cloudbr0", ["public"], "fd00:1::9/64"),
    )
}
#: Few values, so that they meet: two networks, and addresses at the ends of small ranges.
NETWORKS = st.sampled_from(["10.0.0", "10.0.1"])
NETWORKS6 = st.sampled_from(["fd00:1::", "fd00:2::"])
ENDS = st.sampled_from([1, 2, 5, 6, 9])
NAMES = st.sampled_from(["one", "two"])
KINDS = st.sampled_from([kind for kind in traffic.ADDABLE if kind is not TrafficType.MANAGEMENT])
KVM_LABELS = st.sampled_from([*LABELS, "nowhere", None])
REFUSALS = (ModelError, NotFoundError)


class ZoneModelMachine(RuleBasedStateMachine):
    """Calls what the commands call; a refused call must say why, and change nothing."""

    zones = Bundle("zones")
    pods = Bundle("pods")
    clusters = Bundle("clusters")
    networks = Bundle("networks")
    kinds = Bundle("kinds")
    ranges = Bundle("ranges")
    pools = Bundle("pools")
    vms = Bundle("vms")

    def __init__(self) -> None:
        super().__init__()
        self._directory = TemporaryDirectory()
        layout = Layout(Path(self._directory.name))
        self.database = open_first_start(layout.root / "db", layout.pki)
        self.configuration = Configuration(layout, ManagementConfig(), [], LABELS)
        self.catalog = ZoneCatalog(self.configuration)
        self.host_ids = [
            self.database.run_now(
                zones.put_host, name, zone_id=None, arch="amd64", address="10.0.0.1", version="0"
            ).id
            for name in ("host1",)
        ]

    def teardown(self) -> None:
        self.database.close()
        self._directory.cleanup()

    def make(self, change: Callable[..., Any], *values: Any, **named: Any) -> Any:
        """Run a change in a transaction; return its result in a list, or nothing when it is refused."""
        try:
            return [self.database.run_now(change, *values, **named)]
        except REFUSALS as error:
            assert error.message
            return []

    def made(self, change: Callable[..., Any], *values: Any, **named: Any) -> Any:
        return multiple(*(row.uuid for row in self.make(change, *values, **named)))

    # --- zones, pods, clusters and hosts

    @rule(target=zones, name=NAMES)
    def create_zone(self, name: str) -> Any:
        return self.made(model.create_zone, name=name, dns=[], internal_dns=[], labels=LABELS)

    @initialize(target=zones)
    def create_ready_zone(self) -> str:
        """Begin with a zone that has what system VMs need, so that many sequences have some."""

        def change(connection: sa.Connection) -> str:
            zone = model.create_zone(connection, name="ready", dns=[], internal_dns=[], labels=LABELS)
            network = traffic.create_network(connection, zone, name="physical")
            for kind, label in ((TrafficType.MANAGEMENT, "cloudbr1"), (TrafficType.PUBLIC, "cloudbr0")):
                traffic.add_traffic(connection, network, kind, LABELS, kvm_label=label)
            subnet = read_subnet("10.0.0.2", "255.255.255.0", "10.0.0.5", "10.0.0.6")
            pod = places.create_pod(connection, zone, LABELS, name="one", subnet=subnet)
            cluster = places.add_cluster(connection, pod, name="one", hypervisor="KVM", arch="amd64")
            places.add_host(connection, cluster, "host1")
            return zone.uuid

        return self.database.run_now(change)

    @rule(target=ranges, zone=zones)
    def find_ranges(self, zone: str) -> Any:
        def found(connection: sa.Connection) -> list[str]:
            row = zones.zone_by_uuid(connection, zone)
            of_zone = address_ranges.list_ranges(connection, row.id)
            return [each.uuid for each in of_zone if each.traffic_type is not TrafficType.CONTROL]

        return multiple(*itertools.chain(*self.make(found)))

    @rule(target=pods, zone=zones)
    def find_pods(self, zone: str) -> Any:
        def found(connection: sa.Connection) -> list[str]:
            row = zones.zone_by_uuid(connection, zone)
            return [pod.uuid for pod in pods.list_pods(connection, row.id)]

        return multiple(*itertools.chain(*self.make(found)))

    @rule(zone=zones, state=st.sampled_from(["Enabled", "Disabled"]), name=NAMES)
    def update_zone(self, zone: str, state: str, name: str) -> None:
        def change(connection: sa.Connection) -> Any:
            row = zones.zone_by_uuid(connection, zone)
            return model.update_zone(connection, row, LABELS, name=name, allocation_state=state)

        self.make(change)

    @rule(zone=zones)
    def delete_zone(self, zone: str) -> None:
        self.make(lambda c: model.delete_zone(c, zones.zone_by_uuid(c, zone)))

    @rule(target=pods, zone=zones, name=NAMES, network=NETWORKS, first=ENDS, last=ENDS)
    def create_pod(self, zone: str, name: str, network: str, first: int, last: int) -> Any:
        def change(connection: sa.Connection) -> Any:
            subnet = read_subnet(f"{network}.2", "255.255.255.0", f"{network}.{first}", f"{network}.{last}")
            row = zones.zone_by_uuid(connection, zone)
            return places.create_pod(connection, row, LABELS, name=name, subnet=subnet)

        return self.made(change)

    @rule(pod=pods)
    def delete_pod(self, pod: str) -> None:
        self.make(lambda c: places.delete_pod(c, pods.pod_by_uuid(c, pod)))

    @rule(target=clusters, pod=pods, name=NAMES)
    def add_cluster(self, pod: str, name: str) -> Any:
        def change(connection: sa.Connection) -> Any:
            row = pods.pod_by_uuid(connection, pod)
            return places.add_cluster(connection, row, name=name, hypervisor="KVM", arch="amd64")

        return self.made(change)

    @rule(cluster=clusters)
    def delete_cluster(self, cluster: str) -> None:
        self.make(lambda c: places.delete_cluster(c, pods.cluster_by_uuid(c, cluster)))

    @rule(cluster=clusters)
    def add_host(self, cluster: str) -> None:
        self.make(lambda c: places.add_host(c, pods.cluster_by_uuid(c, cluster), "host1"))

    @rule(target=pools, zone=zones, name=NAMES)
    def create_pool(self, zone: str, name: str) -> Any:
        def change(connection: sa.Connection) -> Any:
            place = PoolPlace(storage_pools.ZONE, zones.zone_by_uuid(connection, zone))
            address = PoolAddress(storage_pools.SHARED_MOUNT_POINT, None, f"/srv/{name}")
            return create_pool(connection, str(uuid.uuid4()), place, name, address, "")

        return self.made(change)

    @rule(pool=pools)
    def delete_pool(self, pool: str) -> None:
        self.make(lambda c: delete_pool(c, storage_pools.by_uuid(c, pool)))

    @rule()
    def remove_host(self) -> None:
        self.make(lambda c: places.remove_host(c, zones.host_by_id(c, self.host_ids[0])))

    # --- networks and ranges

    @rule(target=networks, zone=zones, name=NAMES)
    def create_network(self, zone: str, name: str) -> Any:
        return self.made(lambda c: traffic.create_network(c, zones.zone_by_uuid(c, zone), name=name))

    @rule(network=networks)
    def delete_network(self, network: str) -> None:
        self.make(lambda c: traffic.delete_network(c, physical_networks.network_by_uuid(c, network)))

    @rule(target=kinds, network=networks, kind=st.sampled_from(traffic.ADDABLE), label=KVM_LABELS)
    def add_traffic(self, network: str, kind: TrafficType, label: str | None) -> Any:
        def change(connection: sa.Connection) -> Any:
            row = physical_networks.network_by_uuid(connection, network)
            return traffic.add_traffic(connection, row, kind, LABELS, kvm_label=label)

        return self.made(change)

    @rule(kind=kinds, label=KVM_LABELS)
    def update_traffic(self, kind: str, label: str | None) -> None:
        def change(connection: sa.Connection) -> Any:
            row = physical_networks.traffic_by_uuid(connection, kind)
            return traffic.update_traffic(connection, row, LABELS, kvm_label=label)

        self.make(change)

    @rule(kind=kinds)
    def delete_traffic(self, kind: str) -> None:
        self.make(lambda c: traffic.delete_traffic(c, physical_networks.traffic_by_uuid(c, kind)))

    @rule(target=ranges, zone=zones, kind=KINDS, network=NETWORKS, first=ENDS, last=ENDS)
    def add_range(self, zone: str, kind: TrafficType, network: str, first: int, last: int) -> Any:
        def change(connection: sa.Connection) -> Any:
            subnet = read_subnet(f"{network}.2", "255.255.255.0", f"{network}.{first}", f"{network}.{last}")
            return ranges.add_range(connection, zones.zone_by_uuid(connection, zone), kind, subnet, LABELS)

        return self.made(change)

    @rule(target=ranges, zone=zones, kind=KINDS, network=NETWORKS6, first=ENDS, last=ENDS)
    def add_range_of_ipv6_alone(
        self, zone: str, kind: TrafficType, network: str, first: int, last: int
    ) -> Any:
        def change(connection: sa.Connection) -> Any:
            subnet = read_subnet6(f"{network}/64", "fe80::1", f"{network}{first}", f"{network}{last}")
            return ranges.add_range(connection, zones.zone_by_uuid(connection, zone), kind, subnet, LABELS)

        return self.made(change)

    @rule(target=ranges, zone=zones, kind=KINDS, network=NETWORKS, network6=NETWORKS6, first=ENDS, last=ENDS)
    def add_range_of_both(
        self, zone: str, kind: TrafficType, network: str, network6: str, first: int, last: int
    ) -> Any:
        def change(connection: sa.Connection) -> Any:
            subnet = read_subnet(f"{network}.2", "255.255.255.0", f"{network}.{first}", f"{network}.{last}")
            both = with_ipv6(subnet, f"{network6}/64", None, None, None)
            return ranges.add_range(connection, zones.zone_by_uuid(connection, zone), kind, both, LABELS)

        return self.made(change)

    @rule(target=ranges, pod=pods, first=ENDS, last=ENDS)
    def add_management_range(self, pod: str, first: int, last: int) -> Any:
        def change(connection: sa.Connection) -> Any:
            row = pods.pod_by_uuid(connection, pod)
            start = row.cidr.network_address
            subnet = read_subnet(str(row.gateway), "255.255.255.0", str(start + first), str(start + last))
            zone = zones.zone_by_id(connection, row.zone_id)
            return ranges.add_range(connection, zone, TrafficType.MANAGEMENT, subnet, LABELS, pod=row)

        return self.made(change)

    @rule(found=ranges, first=ENDS, last=ENDS)
    def update_range(self, found: str, first: int, last: int) -> None:
        def change(connection: sa.Connection) -> Any:
            row = address_ranges.by_uuid(connection, found)
            start = row.cidr.network_address
            return ranges.update_range(connection, row, LABELS, start + first, start + last)

        self.make(change)

    @rule(found=ranges)
    def delete_range(self, found: str) -> None:
        self.make(lambda c: ranges.delete_range(c, address_ranges.by_uuid(c, found)))

    # --- system VMs

    @rule(target=vms, zone=zones, role=st.sampled_from([Role.SSVM, Role.CPVM]))
    def start_system_vm(self, zone: str, role: Role) -> Any:
        def change(connection: sa.Connection) -> Any:
            row = zones.zone_by_uuid(connection, zone)
            config = ZoneConfig(row.name, self.configuration.zone(row.name).networks, [])
            return allocate(connection, row, config, role, self.host_ids[0], LABELS)

        try:
            return multiple(self.database.run_now(change).id)
        except SystemVmError as error:
            assert error.code in (FailureCode.CONFIGURATION, FailureCode.NO_CAPACITY, FailureCode.NOT_FOUND)
            return multiple()

    @rule(vm=consumes(vms))
    def destroy_system_vm(self, vm: int) -> None:
        self.database.run_now(instances.remove, vm, InstanceState.DESTROYED)

    # --- what always holds

    @invariant()
    def no_address_is_in_two_ranges_of_a_network(self) -> None:
        for one, two in itertools.combinations(self._ranges_with_labels(), 2):
            (zone, label, found), (other_zone, other_label, other) = one, two
            if zone == other_zone or label == other_label:
                for span, theirs in itertools.product(found, other):
                    (first, last), (start, end) = ([int(each) for each in pair] for pair in (span, theirs))
                    overlaps = first <= end and start <= last
                    assert not overlaps or span[0].version != theirs[0].version, (one, two)

    @invariant()
    def subnets_of_a_zone_are_the_same_or_apart(self) -> None:
        found = self._all(schema.address_ranges, "zone_id", "traffic_type", "cidr", "gateway")
        for one, two in itertools.combinations(found, 2):
            if one[0] == two[0] and ip_network(one[2]).overlaps(ip_network(two[2])):
                assert one[1:] == two[1:], (one, two)

    @invariant()
    def every_address_in_use_is_of_a_range_and_given_once(self) -> None:
        taken = self._rows(
            sa.select(*(schema.ip_addresses.c[n] for n in ("zone_id", "traffic_type", "address")))
        )
        assert len(set(taken)) == len(taken)
        link_local = [address for _, kind, address in taken if kind == "control"]
        assert len(set(link_local)) == len(link_local)
        spans = self._all(schema.address_ranges, "zone_id", "traffic_type", "first", "last")
        for zone, kind, address in taken:
            assert any(
                (zone, kind) == span[:2]
                and ip_address(span[2]).version == ip_address(address).version
                and int(ip_address(span[2])) <= int(ip_address(address)) <= int(ip_address(span[3]))
                for span in spans
            ), (zone, kind, address)

    @invariant()
    def every_nic_has_its_address(self) -> None:
        n, a = schema.nics.c, schema.ip_addresses.c
        nics = self._rows(
            sa.select(n.vm_id, n.traffic_type, n.address, n.address6).where(n.removed.is_(None))
        )
        live = {row[0] for row in self._all(schema.vm_instances, "id")}
        held = self._rows(sa.select(a.vm_id, a.traffic_type, a.address))
        had = [
            (vm, kind, address or address6.partition("/")[0])
            for vm, kind, address, address6 in nics
            if vm in live
        ]
        assert sorted(had) == sorted(held)

    @invariant()
    def nothing_refers_to_what_is_removed(self) -> None:
        live = {
            table.name: {row[0] for row in self._all(table, "id")}
            for table in (schema.zones, schema.pods, schema.clusters, schema.hosts, schema.physical_networks)
        }
        for table, column, target in (
            (schema.pods, "zone_id", "zones"),
            (schema.clusters, "pod_id", "pods"),
            (schema.clusters, "zone_id", "zones"),
            (schema.physical_networks, "zone_id", "zones"),
            (schema.traffic_types, "physical_network_id", "physical_networks"),
            (schema.address_ranges, "zone_id", "zones"),
            (schema.address_ranges, "pod_id", "pods"),
            (schema.storage_pools, "zone_id", "zones"),
            (schema.storage_pools, "cluster_id", "clusters"),
            (schema.storage_pools, "host_id", "hosts"),
            (schema.hosts, "cluster_id", "clusters"),
            (schema.hosts, "zone_id", "zones"),
            (schema.vm_instances, "zone_id", "zones"),
        ):
            for (value,) in self._all(table, column):
                assert value is None or value in live[target], (table.name, column, value)

    @invariant()
    def each_traffic_type_of_a_zone_is_on_one_network(self) -> None:
        t, n = schema.traffic_types.c, schema.physical_networks.c
        query = (
            sa.select(n.zone_id, t.traffic_type)
            .join_from(schema.traffic_types, schema.physical_networks, t.physical_network_id == n.id)
            .where(t.removed.is_(None), n.removed.is_(None))
        )
        found = self._rows(query)
        assert len(set(found)) == len(found)

    @invariant()
    def a_host_has_one_pool_while_it_is_in_a_cluster(self) -> None:
        [(cluster_id,)] = self._all(schema.hosts, "cluster_id")
        own = self.database.run_now(storage_pools.pool_of_host, self.host_ids[0])
        assert (own is not None) == (cluster_id is not None)
        assert own is None or own.cluster_id == cluster_id

    @invariant()
    def services_see_every_zone(self) -> None:
        self.database.run_now(self.catalog.load)
        assert set(self.configuration.current) == {row[0] for row in self._all(schema.zones, "name")}

    # --- reading

    def _rows(self, query: Any) -> list[Any]:
        return [tuple(row) for row in self.database.run_now(lambda c: c.execute(query).all())]

    def _all(self, table: sa.Table, *names: str) -> list[Any]:
        """Return columns of the rows that are not removed."""
        return self._rows(sa.select(*(table.c[name] for name in names)).where(table.c.removed.is_(None)))

    def _ranges_with_labels(self) -> list[tuple[int, str, list[Span]]]:
        """Return zone, label and spans of every range; control ranges of zones share theirs on purpose."""

        def read(connection: sa.Connection) -> list[Any]:
            found = []
            for each in address_ranges.list_ranges(connection):
                if each.traffic_type is TrafficType.CONTROL or each.first is None or each.last is None:
                    continue
                carried = physical_networks.traffic_of_zone(connection, each.zone_id).get(each.traffic_type)
                network = physical_networks.network_of_traffic(connection, each.zone_id, each.traffic_type)
                label = carried.kvm_label if carried and carried.kvm_label else network and network.name
                found.append((each.zone_id, label or f"none {each.id}", each.spans))
            return found

        return self.database.run_now(read)


#: `make test` tries 200 sequences, `make check` a quarter of what the profile of conftest.py says.
_PROFILE = settings().max_examples
ZoneModelMachine.TestCase.settings = settings(
    max_examples=200 if _PROFILE >= 100 else _PROFILE // 4, stateful_step_count=25
)
TestSequences = ZoneModelMachine.TestCase


def test_a_host_that_comes_back_has_the_pool_of_before() -> None:
    """Its disks are still there; and its pool has the number that its name gives, which is unique."""
    machine = ZoneModelMachine()
    try:
        machine.create_ready_zone()
        database, [host_id] = machine.database, machine.host_ids
        before = database.run_now(storage_pools.pool_of_host, host_id)
        assert before is not None

        def move(connection: sa.Connection) -> storage_pools.StoragePool | None:
            [pod] = pods.list_pods(connection)
            places.remove_host(connection, zones.host_by_id(connection, host_id))
            assert storage_pools.pool_of_host(connection, host_id) is None
            two = places.add_cluster(connection, pod, name="two", hypervisor="KVM", arch="amd64")
            places.add_host(connection, two, "host1")
            assert two.id != before.cluster_id
            return storage_pools.pool_of_host(connection, host_id)

        after = database.run_now(move)
        assert after is not None
        assert (after.id, after.uuid, after.removed) == (before.id, before.uuid, None)
        assert after.cluster_id != before.cluster_id
    finally:
        machine.teardown()
