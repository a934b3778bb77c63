# SPDX-License-Identifier: Apache-2.0
"""createPhysicalNetwork, addTrafficType and what changes and deletes these."""

from __future__ import annotations

from systemvm.host.zone import TrafficType
from systemvm.management.api.answers.infrastructure import PhysicalNetworkAnswer, TrafficTypeAnswer
from systemvm.management.api.commands import zone_answers
from systemvm.management.api.commands.model_commands import Done, ModelCommand
from systemvm.management.api.commands.model_parameters import STRING, UUID, ZONE, identity, zone_of
from systemvm.management.api.parameters import Arguments, only, optional, required
from systemvm.management.state import physical_networks, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.physical_networks import PhysicalNetwork
from systemvm.management.state.pods import DISABLED, ENABLED
from systemvm.management.zone_model import traffic
from systemvm.management.zone_model.ranges import Labels

_VLANS = optional(
    "vlan",
    STRING,
    "VLANs of networks of accounts, of its label in host.yaml: 100-200,300; empty: none",
    clears=True,
)
_LABELS = (
    optional(
        "kvmnetworklabel",
        STRING,
        "label on KVM hosts, as in host.yaml; the network's name by default, and when it is empty",
        clears=True,
    ),
    optional("xennetworklabel", STRING, "label on XenServer hosts; empty: none", clears=True),
    optional("vmwarenetworklabel", STRING, "label on VMware hosts; empty: none", clears=True),
)


def _labels_of(arguments: Arguments) -> dict[str, str | None]:
    return {
        "kvm_label": arguments.text("kvmnetworklabel"),
        "xen_label": arguments.text("xennetworklabel"),
        "vmware_label": arguments.text("vmwarenetworklabel"),
    }


def _answer(connection: Connection, network: PhysicalNetwork) -> PhysicalNetworkAnswer:
    return zone_answers.network_answer(network, zones.zone_by_id(connection, network.zone_id))


def _create(connection: Connection, arguments: Arguments, labels: Labels) -> PhysicalNetworkAnswer:
    zone = zone_of(connection, arguments)
    created = traffic.create_network(connection, zone, name=arguments["name"])
    vnet = arguments.text("vlan")
    return _answer(
        connection, traffic.update_network(connection, created, labels, state=created.state, vnet=vnet)
    )


def _update(connection: Connection, arguments: Arguments, labels: Labels) -> PhysicalNetworkAnswer:
    network = physical_networks.network_by_uuid(connection, arguments["id"])
    updated = traffic.update_network(
        connection,
        network,
        labels,
        state=arguments.get("state", network.state),
        vnet=arguments.text("vlan"),
    )
    return _answer(connection, updated)


def _delete(connection: Connection, arguments: Arguments, labels: Labels) -> str:
    network = physical_networks.network_by_uuid(connection, arguments["id"])
    traffic.delete_network(connection, network)
    return network.name


def _add_traffic(connection: Connection, arguments: Arguments, labels: Labels) -> TrafficTypeAnswer:
    network = physical_networks.network_by_uuid(connection, arguments["physicalnetworkid"])
    kind = TrafficType(arguments["traffictype"].lower())
    added = traffic.add_traffic(connection, network, kind, labels, **_labels_of(arguments))
    return zone_answers.traffic_answer(added, network, zones.zone_by_id(connection, network.zone_id))


def _update_traffic(connection: Connection, arguments: Arguments, labels: Labels) -> TrafficTypeAnswer:
    found = physical_networks.traffic_by_uuid(connection, arguments["id"])
    updated = traffic.update_traffic(connection, found, labels, **_labels_of(arguments))
    network = physical_networks.network_by_id(connection, found.physical_network_id)
    return zone_answers.traffic_answer(updated, network, zones.zone_by_id(connection, network.zone_id))


def _delete_traffic(connection: Connection, arguments: Arguments, labels: Labels) -> str:
    found = physical_networks.traffic_by_uuid(connection, arguments["id"])
    traffic.delete_traffic(connection, found)
    return found.traffic_type.value


NETWORKS = (
    ModelCommand(
        "createPhysicalNetwork", "Creates a physical network in a zone.", "physical network",
        "PHYSICAL.NETWORK.CREATE", Done.CREATED, _create,
        (
            ZONE,
            required("name", STRING, "name of the network"),
            only("broadcastdomainrange", STRING, "range of the network", "ZONE"),
            only("isolationmethods", STRING, "how VLANs are kept apart", "VLAN"),
            _VLANS,
        ),
        PhysicalNetworkAnswer, "physicalnetwork", is_async=True, related=("addTrafficType",),
    ),
    ModelCommand(
        "updatePhysicalNetwork", "Changes state and VLANs of a physical network.", "physical network",
        "PHYSICAL.NETWORK.UPDATE", Done.UPDATED, _update,
        (
            identity("physical network", "listPhysicalNetworks"),
            optional(
                "state", STRING, "Enabled, or Disabled: no guest network is created on it",
                choices=(ENABLED, DISABLED),
            ),
            _VLANS,
        ),
        PhysicalNetworkAnswer, "physicalnetwork", is_async=True,
    ),
    ModelCommand(
        "deletePhysicalNetwork", "Deletes a physical network that carries no traffic.", "physical network",
        "PHYSICAL.NETWORK.DELETE", Done.DELETED, _delete,
        (identity("physical network", "listPhysicalNetworks"),), is_async=True,
        related=("deleteTrafficType",),
    ),
    ModelCommand(
        "addTrafficType", "Has a physical network carry a traffic type.", "traffic type",
        "TRAFFIC.TYPE.CREATE", Done.CREATED, _add_traffic,
        (
            required("physicalnetworkid", UUID, "UUID of the physical network; see listPhysicalNetworks"),
            required(
                "traffictype", STRING, "what it carries",
                choices=[kind.value.title() for kind in traffic.ADDABLE],
            ),
            *_LABELS,
        ),
        TrafficTypeAnswer, "traffictype", is_async=True, related=("listTrafficTypes", "createVlanIpRange"),
    ),
    ModelCommand(
        "updateTrafficType", "Changes labels of a traffic type, for system VMs that are created from now on.",
        "traffic type", "TRAFFIC.TYPE.UPDATE", Done.UPDATED, _update_traffic,
        (identity("traffic type", "listTrafficTypes"), *_LABELS),
        TrafficTypeAnswer, "traffictype", is_async=True,
    ),
    ModelCommand(
        "deleteTrafficType", "Deletes a traffic type without ranges from a physical network.", "traffic type",
        "TRAFFIC.TYPE.DELETE", Done.DELETED, _delete_traffic,
        (identity("traffic type", "listTrafficTypes"),), is_async=True,
    ),
)  # fmt: skip
