# SPDX-License-Identifier: Apache-2.0
"""Physical networks, and the traffic types that they carry."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.host.zone import TrafficType
from systemvm.management.state import schema
from systemvm.management.state.rows import Rows


@frozen
class PhysicalNetwork:
    id: int
    uuid: str
    zone_id: int
    name: str
    state: str
    vnet: str | None  # VLANs of networks of accounts, such as 100-200,300
    created: datetime
    removed: datetime | None


@frozen
class CarriedTraffic:
    """A traffic type on a physical network, with the label that each hypervisor has for it."""

    id: int
    uuid: str
    physical_network_id: int
    traffic_type: TrafficType = field(converter=TrafficType)
    kvm_label: str | None
    xen_label: str | None
    vmware_label: str | None
    created: datetime
    removed: datetime | None


network_rows = Rows(schema.physical_networks, PhysicalNetwork, "physical network")
traffic_rows = Rows(schema.traffic_types, CarriedTraffic, "traffic type")

network_by_id = network_rows.by_id
network_by_uuid = network_rows.by_uuid
traffic_by_id = traffic_rows.by_id
traffic_by_uuid = traffic_rows.by_uuid


def list_networks(connection: sa.Connection, zone_id: int | None = None) -> list[PhysicalNetwork]:
    c = schema.physical_networks.c
    where = [c.removed.is_(None)] + ([] if zone_id is None else [c.zone_id == zone_id])
    return network_rows.all(connection, *where)


def traffic_of_network(connection: sa.Connection, network_id: int) -> list[CarriedTraffic]:
    c = schema.traffic_types.c
    return traffic_rows.all(connection, c.removed.is_(None), c.physical_network_id == network_id)


def network_of_traffic(
    connection: sa.Connection, zone_id: int, traffic_type: TrafficType
) -> PhysicalNetwork | None:
    """Return the physical network that carries a traffic type of a zone; None when none does."""
    carried = traffic_of_zone(connection, zone_id).get(traffic_type)
    return None if carried is None else network_by_id(connection, carried.physical_network_id)


def traffic_of_zone(connection: sa.Connection, zone_id: int) -> dict[TrafficType, CarriedTraffic]:
    """Return the traffic types of a zone's physical networks."""
    networks = schema.physical_networks.c
    of_zone = sa.select(networks.id).where(networks.zone_id == zone_id, networks.removed.is_(None))
    c = schema.traffic_types.c
    found = traffic_rows.all(connection, c.removed.is_(None), c.physical_network_id.in_(of_zone))
    return {traffic.traffic_type: traffic for traffic in found}
