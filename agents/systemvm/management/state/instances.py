# SPDX-License-Identifier: Apache-2.0
"""VMs of both kinds and their NICs. Their numbers come from one sequence, as in CloudStack."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.rows import NotFoundError, Rows, one_of
from systemvm.management.state.status import AgentState, BootType, InstanceState, InstanceType
from systemvm.wire.vm_name import VmName

#: The hypervisor of hosts that daemons of this cloud drive.
DRIVEN = "KVM"


@frozen
class Instance:
    id: int
    uuid: str
    account_id: int
    domain_id: int
    zone_id: int
    arch: str | None
    instance_name: str
    name: str
    display_name: str | None
    type: InstanceType
    state: InstanceState
    wanted: bool
    reason: str | None
    hint: str | None
    ended_by_itself: bool
    host_id: int | None
    template_id: int | None
    iso_id: int | None
    hypervisor: str
    vcpus: int
    memory_mib: int
    boot_type: BootType
    keyboard: str | None  # the layout of its guest
    details: dict[str, str]  # what its owner noted of it
    vnc_address: str | None
    vnc_port: int | None
    sealed_vnc_password: bytes | None = field(repr=False)
    vnc_ca_pem: str | None = field(repr=False)
    serial_port: int | None  # the TCP port that its serial port is at, on vnc_address
    serial_fingerprint: str | None
    agent_state: AgentState | None
    agent_reason: str | None
    agent_hint: str | None
    agent_version: str | None
    image_version: str | None
    image_sha256: str | None
    boot_id: str | None
    host_keys: list[str]
    console_sessions: int
    drain_until: datetime | None  # of a CPVM that takes no new session
    started: datetime | None
    disconnected: datetime | None
    expunge_at: datetime | None
    host_reference: str | None  # by which a host that no daemon drives names it
    created: datetime
    updated: datetime
    removed: datetime | None

    @property
    def is_driven(self) -> bool:
        """Whether a daemon of this cloud runs it; others are reached through their hosts' own API."""
        return self.hypervisor == DRIVEN

    @property
    def has_screen(self) -> bool:
        """Whether its screen can be asked for while it runs."""
        return not self.is_driven or (self.vnc_port is not None and self.vnc_address is not None)

    @property
    def shown_name(self) -> str:
        """The display name, else the name."""
        return self.display_name or self.name


@frozen
class Nic:
    id: int
    uuid: str
    vm_id: int
    device: int
    traffic_type: str
    bridge: str
    vlan: int | None
    mac: str
    address: str | None
    netmask: str | None
    gateway: str | None
    address6: str | None  # with its prefix length
    gateway6: str | None
    guest_network_id: int | None  # of state/guest_networks.py

    @property
    def ipv6(self) -> str | None:
        """Its IPv6 address, without a prefix length."""
        return None if self.address6 is None else self.address6.partition("/")[0]

    @property
    def reached_at(self) -> str | None:
        """The address that others use: of IPv4, else of IPv6."""
        return self.address or self.ipv6


#: Traffic types of the NIC that has a system VM's default route, the first that it has.
OUTSIDE = ("public", "management")


def outside_nic(nics: Sequence[Nic]) -> Nic | None:
    """Return the NIC that browsers and sources are reached through: in a zone without a public network it is
    the management one.
    """
    by_type = {nic.traffic_type: nic for nic in nics if nic.reached_at}
    return next((by_type[kind] for kind in OUTSIDE if kind in by_type), None)


#: The columns of a VM without a VNC server and a serial port.
NO_SCREEN: dict[str, None] = {
    "vnc_address": None,
    "vnc_port": None,
    "sealed_vnc_password": None,
    "vnc_ca_pem": None,
    "serial_port": None,
    "serial_fingerprint": None,
}

rows = Rows(schema.vm_instances, Instance, "virtual machine")
nic_rows = Rows(schema.nics, Nic, "NIC")
_v = schema.vm_instances.c
SYSTEM_TYPES = tuple(kind for kind in InstanceType if kind.is_system)
_n = schema.nics.c
_NICS_OF = nic_rows.prepared(_n.vm_id.in_(one_of("vm_ids")), _n.removed.is_(None), order_by=[_n.device.asc()])

by_id = rows.by_id
by_ids = rows.by_ids
by_uuid = rows.by_uuid


def _instance_name(kind: InstanceType, account_id: int, number: int) -> str:
    if kind is InstanceType.USER:
        return f"i-{account_id}-{number}-VM"
    return f"{'s' if kind is InstanceType.SECONDARY_STORAGE else 'v'}-{number}-VM"


def create(
    connection: sa.Connection, /, kind: InstanceType, *, account_id: int, name: str = "", **columns: Any
) -> Instance:
    """Create a VM, Stopped, with an instance name from its number."""
    key = connection.execute(
        schema.vm_instances.insert().values(type=kind, account_id=account_id, name=name, **columns)
    ).inserted_primary_key
    number = int(cast("sa.Row[Any]", key)[0])
    instance_name = _instance_name(kind, account_id, number)
    return rows.update(connection, number, instance_name=instance_name, name=name or instance_name)


def update(connection: sa.Connection, /, instance_id: int, **changes: Any) -> Instance:
    return rows.update(connection, instance_id, **changes)


def change_state(
    connection: sa.Connection,
    /,
    instance_id: int,
    expected: Sequence[InstanceState],
    state: InstanceState,
    **changes: Any,
) -> Instance | None:
    """Change the state if it is one of `expected` now; return None if it is not."""
    changed = rows.update_where(
        connection, _v.id == instance_id, _v.state.in_(expected), state=state, **changes
    )
    return rows.by_id(connection, instance_id) if changed else None


def by_instance_name(connection: sa.Connection, instance_name: str) -> Instance:
    """Return a VM by a name such as `s-1-VM`, whatever its case.

    Raises: NotFoundError when there is none, or it is removed.
    """
    found = rows.one(
        connection,
        sa.func.lower(_v.instance_name) == VmName(instance_name).key,
        _v.removed.is_(None),
    )
    if found is None:
        raise NotFoundError(f"there is no virtual machine named {instance_name}")
    return found


def list_all(connection: sa.Connection) -> list[Instance]:
    """Return VMs of both kinds that are not removed."""
    return rows.all(connection, _v.removed.is_(None))


def list_system(connection: sa.Connection, zone_id: int | None = None) -> list[Instance]:
    """Return system VMs that are not removed, of one zone or of all."""
    of_zone = [] if zone_id is None else [_v.zone_id == zone_id]
    # named, and not all but users' VMs: of many rows the index finds the few
    return rows.all(connection, _v.removed.is_(None), _v.type.in_(SYSTEM_TYPES), *of_zone)


def list_user(connection: sa.Connection) -> list[Instance]:
    """Return users' VMs that are not removed."""
    return rows.all(connection, _v.removed.is_(None), _v.type == InstanceType.USER)


def of_host(connection: sa.Connection, host_id: int) -> list[Instance]:
    """Return the VMs of a host that are not removed."""
    return rows.all(connection, _v.removed.is_(None), _v.host_id == host_id)


def running_of_users(connection: sa.Connection, host_id: int) -> list[Instance]:
    """Return users' VMs that run on a host."""
    running = (_v.type == InstanceType.USER, _v.state == InstanceState.RUNNING)
    return rows.all(connection, _v.removed.is_(None), _v.host_id == host_id, *running)


def names_of_ssvms_by_zone(connection: sa.Connection) -> dict[int, list[str]]:
    """Return the instance names of SSVMs by the number of their zone, oldest first."""
    query = (
        sa.select(_v.zone_id, _v.instance_name)
        .where(_v.type == InstanceType.SECONDARY_STORAGE, _v.removed.is_(None), _v.instance_name.is_not(None))
        .order_by(_v.id)
    )
    found: dict[int, list[str]] = {}
    for zone_id, name in connection.execute(query):
        found.setdefault(zone_id, []).append(name)
    return found


def is_host_name_taken(connection: sa.Connection, account_id: int, name: str) -> bool:
    """Return whether a VM of the account that is not removed has this host name, whatever its case.

    Hosts that no daemon drives name their VMs as they like.
    """
    same = sa.func.lower(_v.name) == name.lower()
    where = (_v.removed.is_(None), _v.account_id == account_id, _v.hypervisor == DRIVEN, same)
    return rows.one(connection, *where) is not None


def ids_of_account(connection: sa.Connection, account_id: int, *, running: bool = False) -> list[int]:
    """Return the numbers of an account's VMs that are not removed; with `running` those that are not stopped.

    One that is being stopped counts as running: a reboot or a maintenance starts it again.

    VMs of hosts that no daemon drives are none of them: the cloud neither stops nor deletes these.
    """
    query = sa.select(_v.id).where(
        _v.account_id == account_id,
        _v.type == InstanceType.USER,
        _v.removed.is_(None),
        _v.hypervisor == DRIVEN,
    )
    if running:
        query = query.where(_v.state.in_(InstanceState.with_process()))
    return list(connection.scalars(query))


def count_running(connection: sa.Connection, account_ids: Sequence[int]) -> dict[int, int]:
    """Return how many VMs of each of these accounts run."""
    where = (_v.type == InstanceType.USER, _v.removed.is_(None), _v.state == InstanceState.RUNNING)
    query = sa.select(_v.account_id, sa.func.count()).where(*where, _v.account_id.in_(account_ids))
    query = query.group_by(_v.account_id)
    return {account_id: count for account_id, count in connection.execute(query)}  # noqa: C416


def due_for_expunge(connection: sa.Connection, host_id: int) -> list[int]:
    """Return the numbers of a host's destroyed VMs that are due to be expunged, the earliest first."""
    query = (
        sa.select(_v.id)
        .where(_v.expunge_at <= now(), _v.removed.is_(None), _v.type == InstanceType.USER)
        .where(_v.state.in_(InstanceState.gone()), sa.or_(_v.host_id == host_id, _v.host_id.is_(None)))
        .order_by(_v.expunge_at)
    )
    return list(connection.scalars(query))


def remove(connection: sa.Connection, instance_id: int, state: InstanceState) -> None:
    """Mark a VM and its NICs as removed and release its addresses; the row stays as history."""
    rows.update(connection, instance_id, state=state, removed=now())
    nic_rows.update_where(connection, _n.vm_id == instance_id, _n.removed.is_(None), removed=now())
    table = schema.ip_addresses
    connection.execute(table.delete().where(table.c.vm_id == instance_id))


def add_nic(
    connection: sa.Connection,
    *,
    vm_id: int,
    device: int,
    traffic_type: str,
    bridge: str,
    mac: str,
    vlan: int | None = None,
    address: str | None = None,
    netmask: str | None = None,
    gateway: str | None = None,
    address6: str | None = None,
    gateway6: str | None = None,
    guest_network_id: int | None = None,
) -> Nic:
    return nic_rows.insert(
        connection,
        vm_id=vm_id,
        device=device,
        traffic_type=traffic_type,
        bridge=bridge,
        vlan=vlan,
        mac=mac,
        address=address,
        netmask=netmask,
        gateway=gateway,
        address6=address6,
        gateway6=gateway6,
        guest_network_id=guest_network_id,
    )


def nics_of(connection: sa.Connection, vm_id: int) -> list[Nic]:
    """Return a VM's NICs, eth0 first."""
    return nic_rows.all(connection, _n.vm_id == vm_id, _n.removed.is_(None), order_by=[_n.device.asc()])


def nics_by_vm(connection: sa.Connection, vm_ids: Sequence[int]) -> dict[int, list[Nic]]:
    """Return the NICs of several VMs by VM, in one query."""
    found = _NICS_OF.all(connection, vm_ids=vm_ids)
    grouped: dict[int, list[Nic]] = {vm_id: [] for vm_id in vm_ids}
    for nic in found:
        grouped[nic.vm_id].append(nic)
    return grouped
