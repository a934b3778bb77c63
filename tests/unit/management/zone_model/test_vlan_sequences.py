# SPDX-License-Identifier: Apache-2.0
"""Any sequence of networks and VMs, with kills between the steps, gives no VLAN twice and loses none."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from prepared_database import open_first_start
from systemvm.host.bridges import HostNetwork
from systemvm.host.guest_vlans import vlan_bridge
from systemvm.host.layout import Layout
from systemvm.host.zone import TrafficType
from systemvm.management.guest_networks import vlans
from systemvm.management.guest_networks.nics import WantedNic, add_guest_nics
from systemvm.management.guest_networks.vlans import NO_BRIDGE, NoVlanError
from systemvm.management.state import accounts, address_ranges, guest_networks, instances, zones
from systemvm.management.state.guest_networks import GuestNetwork
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import GuestNetworkState, InstanceState, InstanceType
from systemvm.management.virtual_machines.deployment import mark_expunged, random_mac
from systemvm.management.zone_model import traffic
from systemvm.management.zone_model import zones as model
from systemvm.management.zone_model.guest_networks import delete_network
from systemvm.management.zone_model.isolated_networks import create_isolated_network
from systemvm.management.zone_model.l2_networks import create_l2_network
from systemvm.management.zone_model.refusals import ModelError

BRIDGE = "cloudbr3"
VLANS = frozenset({100, 101})
GUEST = HostNetwork(BRIDGE, ("guest",), vlans=VLANS, guest_cidr=IPv4Network("10.1.0.0/22"))
LABELS = {BRIDGE: GUEST, "cloud0": HostNetwork.of("cloud0", ["control"], "169.254.0.1/16")}
#: Of what exists, the one with this number, counted in circles.
ANY = st.integers(0, 5)


class VlanMachine(RuleBasedStateMachine):
    """Two zones share a label with two VLANs, and have up to four subnets."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = TemporaryDirectory()
        layout = Layout(Path(self._directory.name))
        self.database = open_first_start(layout.root / "db", layout.pki)
        self.zone_ids = [self.run(self._create_zone, name) for name in ("one", "two")]
        self.names = 0

    def teardown(self) -> None:
        self.database.close()
        self._directory.cleanup()

    def run(self, function: Any, *values: Any, **named: Any) -> Any:
        return self.database.run_now(function, *values, **named)

    @staticmethod
    def _create_zone(connection: sa.Connection, name: str) -> int:
        zone = model.create_zone(connection, name=name, dns=[], internal_dns=[], labels=LABELS)
        network = traffic.create_network(connection, zone, name=BRIDGE)
        traffic.add_traffic(connection, network, TrafficType.GUEST, LABELS)
        traffic.update_network(connection, network, LABELS, state="Enabled", vnet="100-101")
        return zone.id

    @property
    def networks(self) -> list[GuestNetwork]:
        return list(self.run(guest_networks.list_networks))

    @property
    def isolated(self) -> list[GuestNetwork]:
        return [network for network in self.networks if network.is_isolated]

    @property
    def vms(self) -> list[Instance]:
        return list(self.run(instances.list_user))

    @rule(zone=ANY)
    def create(self, zone: int) -> None:
        def change(connection: sa.Connection) -> None:
            self.names += 1
            create_isolated_network(
                connection,
                zones.zone_by_id(connection, self.zone_ids[zone % 2]),
                LABELS,
                account_id=accounts.account_by_id(connection, 2).id,
                name=f"network{self.names}",
                display_text="",
                domain=None,
                subnet=None,
            )

        try:
            self.run(change)
        except ModelError as error:
            assert "no subnet" in error.message
            assert len(self.isolated) == 4

    @precondition(lambda self: len(self.networks) < 6)
    @rule(zone=ANY)
    def create_l2(self, zone: int) -> None:
        def change(connection: sa.Connection) -> None:
            self.names += 1
            create_l2_network(
                connection,
                zones.zone_by_id(connection, self.zone_ids[zone % 2]),
                LABELS,
                account_id=accounts.account_by_id(connection, 2).id,
                name=f"network{self.names}",
                display_text="",
                domain=None,
            )

        self.run(change)

    @precondition(lambda self: self.networks)
    @rule(which=ANY)
    def delete(self, which: int) -> None:
        network = self.networks[which % len(self.networks)]
        try:
            self.run(delete_network, network)
        except ModelError as error:
            assert "virtual machine" in error.message

    @precondition(lambda self: self.networks)
    @rule(which=ANY, second=ANY)
    def deploy(self, which: int, second: int) -> None:
        first, other = (self.networks[number % len(self.networks)] for number in (which, second))
        wanted = {network.id for network in (first, other) if network.zone_id == first.zone_id}

        def change(connection: sa.Connection) -> None:
            vm = instances.create(
                connection, InstanceType.USER, account_id=2, domain_id=1, zone_id=first.zone_id,
                vcpus=1, memory_mib=64,
            )  # fmt: skip
            add_guest_nics(connection, vm, [*map(WantedNic, sorted(wanted))], bridge=BRIDGE, mac=random_mac)

        self.run(change)

    @precondition(lambda self: self.vms)
    @rule(which=ANY, step=st.integers(0, 2))
    def start(self, which: int, step: int) -> None:
        """Start a VM; the daemon is killed after the first steps of it, or not."""
        vm = self.vms[which % len(self.vms)]
        if vm.state is not InstanceState.STOPPED:
            return
        self.run(instances.update, vm.id, state=InstanceState.STARTING)
        try:
            self.run(vlans.take_vlans, vm.id, LABELS)
        except NoVlanError:
            self.run(instances.update, vm.id, state=InstanceState.STOPPED)
            assert {network.vlan for network in self.networks} >= VLANS or len(
                self.run(guest_networks.of_vm, vm.id)
            ) > 1
            return
        if step > 0:
            self.run(vlans.note_implemented, LABELS, [])
        if step > 1:
            self.run(instances.update, vm.id, state=InstanceState.RUNNING)

    @precondition(lambda self: self.vms)
    @rule(which=ANY)
    def end(self, which: int) -> None:
        """End a VM, as its user does, or the adoption of a new daemon that finds no process."""
        vm = self.vms[which % len(self.vms)]
        self.run(instances.update, vm.id, state=InstanceState.STOPPED)

    @precondition(lambda self: self.vms)
    @rule(which=ANY)
    def expunge(self, which: int) -> None:
        vm = self.vms[which % len(self.vms)]
        if not vm.state.has_process:
            self.run(mark_expunged, vm)

    @rule()
    def release(self) -> None:
        self.run(vlans.release_unused)
        active = {
            network.id
            for vm in self.vms
            if vm.state.has_process
            for network in self.run(guest_networks.of_vm, vm.id)
        }
        held = {network.id for network in self.networks if network.vlan is not None}
        assert held <= active, "a VLAN is kept that no VM needs"

    @invariant()
    def no_vlan_is_given_twice(self) -> None:
        held = [network.vlan for network in self.networks if network.vlan is not None]
        assert len(held) == len(set(held))
        assert set(held) <= VLANS
        for network in self.networks:
            assert (network.vlan is None) == (network.state is GuestNetworkState.ALLOCATED)

    @invariant()
    def what_runs_is_on_the_bridge_of_its_vlan(self) -> None:
        by_id = {network.id: network for network in self.networks}
        for vm in self.vms:
            for nic in self.run(instances.nics_of, vm.id):
                network = by_id[nic.guest_network_id]
                expected = NO_BRIDGE if network.vlan is None else vlan_bridge(BRIDGE, network.vlan)
                assert nic.bridge == expected
                assert not (vm.state is InstanceState.RUNNING and nic.bridge == NO_BRIDGE)

    @invariant()
    def only_isolated_networks_have_addresses(self) -> None:
        by_id = {network.id: network for network in self.networks}
        for vm in self.vms:
            for nic in self.run(instances.nics_of, vm.id):
                assert (nic.address is not None) == by_id[nic.guest_network_id].is_isolated
        for link in self.run(vlans.links, LABELS):
            [network] = [each for each in self.networks if each.vlan == link.vlan]
            assert (link.address is not None) == network.is_isolated

    @invariant()
    def no_two_subnets_overlap(self) -> None:
        cidrs = [each.cidr for each in self.run(address_ranges.list_ranges) if each.guest_network_id]
        assert len(cidrs) == len(self.isolated)
        assert not any(one.overlaps(other) for one in cidrs for other in cidrs if one is not other)


TestSequences = VlanMachine.TestCase
TestSequences.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
