# SPDX-License-Identifier: Apache-2.0
"""System VMs of zones without a public or storage network, or with one bridge for several traffic types."""

from __future__ import annotations

from typing import Any

import pytest_twisted
import sqlalchemy as sa

from systemvm.guest import firewall, network
from systemvm.host.zone import TrafficType
from systemvm.management.state import address_ranges, instances, physical_networks, schema
from systemvm.management.state.columns import now
from systemvm.management.zone_model.catalog import ZoneCatalog
from systemvm.wire import boot_arguments

RULES = 'table inet systemvm { chain input { iifname "eth1" tcp dport 9180 accept; } }'


def remove(host: Any, *kinds: TrafficType) -> None:
    """Remove networks from the zone, as its operator does."""
    c = schema.address_ranges.c
    values = [kind.value for kind in kinds]
    host.database.run_now(address_ranges.rows.update_where, c.traffic_type.in_(values), removed=now())
    traffic = schema.traffic_types.c
    host.database.run_now(
        physical_networks.traffic_rows.update_where, traffic.traffic_type.in_(values), removed=now()
    )
    host.database.run_now(ZoneCatalog(host.configuration).load)


def arguments_of(host: Any, name: str) -> dict[str, str]:
    spec = host.hypervisor.specs[name]
    return boot_arguments.parse(spec.credentials[boot_arguments.CMDLINE_CREDENTIAL].decode())


@pytest_twisted.ensureDeferred
async def test_without_a_public_network_the_management_nic_is_eth2_with_the_default_route(
    host: Any, tmp_path: Any
) -> None:
    remove(host, TrafficType.PUBLIC)
    await host.reconciler.scan()
    arguments = arguments_of(host, "v-2-VM")
    expected = {
        "eth2ip": "10.11.0.101",
        "gateway": "10.11.0.1",
        "private.network.device": "eth2",
        "public.network.device": "eth2",
        "mgmtcidr": "10.11.0.0/24",
    }
    assert {key: arguments.get(key) for key in expected} == expected
    assert "eth1ip" not in arguments
    spec = host.hypervisor.specs["v-2-VM"]
    assert [nic.traffic_type for nic in spec.nics] == ["control", "management"]
    assert arguments["nic_macs"].split("|") == [spec.nics[0].mac, "", spec.nics[1].mac]

    planned = network.make_plan(arguments)
    assert [(nic.device, nic.mac) for nic in planned.interfaces] == [
        ("eth0", spec.nics[0].mac),
        ("eth2", spec.nics[1].mac),
    ]
    assert {(str(route.gateway), route.device) for route in planned.routes} == {("10.11.0.1", "eth2")}
    present = {"eth0": spec.nics[0].mac, "eth1": spec.nics[1].mac}  # as the kernel names them
    assert "link set dev was-eth1 name eth2" in planned.renaming(present)
    rules = tmp_path / "nftables.conf"
    rules.write_text(RULES)
    script = firewall.script(rules, planned, arguments)
    assert 'iifname "eth2" tcp dport 9180' in script
    assert "eth1" not in script


@pytest_twisted.ensureDeferred
async def test_without_a_storage_network_stores_are_reached_over_management(host: Any) -> None:
    remove(host, TrafficType.STORAGE)
    await host.reconciler.scan()
    arguments = arguments_of(host, "s-1-VM")
    assert "eth3ip" not in arguments
    assert "storageip" not in arguments
    planned = network.make_plan(arguments)
    assert planned.storage == planned.management
    # the store's server is outside of the management network, behind its router
    to_store = [route for route in planned.routes if str(route.destination) == "10.12.0.2/32"]
    assert [(str(route.gateway), route.device) for route in to_store] == [("10.11.0.1", "eth1")]
    assert "storagegateway" not in arguments_of(host, "v-2-VM")


@pytest_twisted.ensureDeferred
async def test_without_both_an_ssvm_has_two_nics(host: Any) -> None:
    remove(host, TrafficType.PUBLIC, TrafficType.STORAGE)
    await host.reconciler.scan()
    vm = await host.database.read(instances.by_instance_name, "s-1-VM")
    nics = await host.database.read(instances.nics_of, vm.id)
    assert [(nic.device, nic.traffic_type) for nic in nics] == [(0, "control"), (2, "management")]
    outside = instances.outside_nic(nics)
    assert outside is not None
    assert outside.address == "10.11.0.100"
    planned = network.make_plan(arguments_of(host, "s-1-VM"))
    assert planned.public == planned.management == planned.storage


@pytest_twisted.ensureDeferred
async def test_storage_without_public_keeps_its_device(host: Any) -> None:
    remove(host, TrafficType.PUBLIC)
    await host.reconciler.scan()
    spec = host.hypervisor.specs["s-1-VM"]
    assert [nic.traffic_type for nic in spec.nics] == ["control", "management", "storage"]
    planned = network.make_plan(arguments_of(host, "s-1-VM"))
    assert [nic.device for nic in planned.interfaces] == ["eth0", "eth2", "eth3"]
    present = dict(zip(("eth0", "eth1", "eth2"), (nic.mac for nic in spec.nics), strict=True))
    renamed = planned.renaming(present)
    assert "link set dev was-eth1 name eth2" in renamed
    assert "link set dev was-eth2 name eth3" in renamed


@pytest_twisted.ensureDeferred
async def test_traffic_types_with_one_label_share_its_bridge(host: Any) -> None:
    def share(connection: sa.Connection) -> None:
        c = schema.traffic_types.c
        where = c.traffic_type.in_(["public", "storage"])
        physical_networks.traffic_rows.update_where(connection, where, kvm_label="cloudbr1")

    host.database.run_now(share)
    await host.reconciler.scan()
    spec = host.hypervisor.specs["s-1-VM"]
    assert [(nic.traffic_type, nic.bridge) for nic in spec.nics] == [
        ("control", "cloud0"),
        ("management", "cloudbr1"),
        ("public", "cloudbr1"),
        ("storage", "cloudbr1"),
    ]
    assert len({nic.mac for nic in spec.nics}) == 4


@pytest_twisted.ensureDeferred
async def test_a_nic_is_in_the_vlan_of_its_range(host: Any) -> None:
    def tag(connection: sa.Connection) -> None:
        where = schema.address_ranges.c.traffic_type.in_(["public", "storage"])
        address_ranges.rows.update_where(connection, where, vlan=200)

    host.database.run_now(tag)
    await host.reconciler.scan()
    spec = host.hypervisor.specs["s-1-VM"]
    assert [(nic.traffic_type, nic.bridge, nic.vlan) for nic in spec.nics] == [
        ("control", "cloud0", None),
        ("management", "cloudbr1", None),
        ("public", "cloudbr0", 200),
        ("storage", "cloudbr2", 200),
    ]


@pytest_twisted.ensureDeferred
async def test_a_label_that_the_host_does_not_have_starts_nothing(host: Any) -> None:
    where = schema.traffic_types.c.traffic_type == "public"
    host.database.run_now(physical_networks.traffic_rows.update_where, where, kvm_label="elsewhere")
    await host.reconciler.scan()
    assert host.hypervisor.specs == {}
    assert await host.database.read(instances.list_system) == []
