# SPDX-License-Identifier: Apache-2.0
"""Database rows of SmallCloud: one zone with its store, host and system VMs, and two logins."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import argon2
import sqlalchemy as sa

from prepared_database import open_migrated
from systemvm.host.zone import AddressRange, NetworkConfig, NetworksConfig, ZoneConfig
from systemvm.management.api.authentication import principal_of
from systemvm.management.api.principal import Principal
from systemvm.management.pki.seal import Seal
from systemvm.management.state import accounts, instances, offerings, templates, zones
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import AccountType, AgentState, InstanceState, InstanceType
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.zone_model.file_import import import_host, import_zone
from systemvm.wire.storage import DownloadState, ImageFormat, Store

STORE = Store("10.12.0.2", "/export/secondary")
ADMIN_PASSWORD, USER_PASSWORD = "correct horse", "battery staple"
API_KEY, SECRET_KEY = "an-api-key", "a-secret-key"

NETWORKS = NetworksConfig(
    control=NetworkConfig("cloud0", IPv4Network("169.254.0.0/16"), IPv4Address("169.254.0.1")),
    management=NetworkConfig("cloudbr1", IPv4Network("10.11.0.0/24"), IPv4Address("10.11.0.1")),
    public=NetworkConfig(
        "cloudbr0",
        IPv4Network("203.0.113.0/24"),
        IPv4Address("203.0.113.1"),
        pool=AddressRange(IPv4Address("203.0.113.100"), IPv4Address("203.0.113.199")),
    ),
    guest=NetworkConfig("cloudbr3", IPv4Network("10.13.0.0/24"), IPv4Address("10.13.0.1")),
)

#: Weak on purpose: the tests are not about argon2.
HASHER = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def fill(directory: Path) -> Path:
    """Write the database file of a small cloud, which `make` copies."""
    path = directory / "systemvm.sqlite"
    database = open_migrated(path)
    database.run_now(_fill, Seal.open_key(directory))
    database.close()
    return path


def _fill(connection: sa.Connection, seal: Seal) -> None:
    root = accounts.create_domain(connection, "ROOT", "/")
    system = accounts.create_account(connection, "system", AccountType.ADMIN, root.id)
    accounts.create_user(connection, "system", system, None)
    admins = accounts.create_account(connection, "admin", AccountType.ADMIN, root.id)
    admin = accounts.create_user(connection, "admin", admins, HASHER.hash(ADMIN_PASSWORD))
    accounts.add_api_key(connection, admin.id, API_KEY, seal.close(SECRET_KEY))
    users = accounts.create_account(connection, "users", AccountType.USER, root.id)
    accounts.create_user(connection, "ulla", users, HASHER.hash(USER_PASSWORD))
    zone = zones.put_zone(connection, "zone1", arch="amd64", dns=["203.0.113.10"], internal_dns=["10.11.0.2"])
    host = zones.put_host(
        connection,
        "host1",
        zone_id=zone.id,
        arch="amd64",
        address="10.11.0.1",
        version="0.1.0",
        has_uefi=True,
    )
    config = ZoneConfig("zone1", NETWORKS, [IPv4Address("203.0.113.10")])
    zone = import_zone(connection, zone, config)
    import_host(connection, host)
    offerings.add_first(connection)
    zones.put_store(
        connection,
        "secondary",
        zone_id=zone.id,
        url="nfs://10.12.0.2/export/secondary",
        host_path="/nowhere",
        nfs_version="4.2",
    )
    add_system_vm(connection, InstanceType.SECONDARY_STORAGE, zone.id, host.id)
    add_system_vm(connection, InstanceType.CONSOLE_PROXY, zone.id, host.id)


def add_system_vm(connection: sa.Connection, kind: InstanceType, zone_id: int, host_id: int) -> Instance:
    vm = instances.create(
        connection,
        kind,
        account_id=1,
        zone_id=zone_id,
        host_id=host_id,
        state=InstanceState.RUNNING,
        agent_state=AgentState.UP,
        image_version="0.1.0",
        arch="amd64",
    )
    networks = [
        ("control", "cloud0", f"169.254.0.{vm.id}", "255.255.0.0", None),
        ("management", "cloudbr1", f"10.11.0.{100 + vm.id}", "255.255.255.0", "10.11.0.1"),
        ("public", "cloudbr0", f"203.0.113.{100 + vm.id}", "255.255.255.0", "203.0.113.1"),
    ]
    for device, (traffic, bridge, address, netmask, gateway) in enumerate(networks):
        instances.add_nic(
            connection,
            vm_id=vm.id,
            device=device,
            traffic_type=traffic,
            bridge=bridge,
            mac=f"0e:00:00:00:{device:02x}:{vm.id:02x}",
            address=address,
            netmask=netmask,
            gateway=gateway,
        )
    return vm


def principal(connection: sa.Connection, username: str) -> Principal:
    user = accounts.user_by_name(connection, username)
    found = principal_of(connection, user) if user else None
    if found is None:
        raise LookupError(username)
    return found


def add_template(
    connection: sa.Connection,
    zone_id: int,
    store_id: int,
    state: DownloadState,
    owner: Principal,
    columns: dict[str, Any],
) -> tuple[Template, StoreRef]:
    values: dict[str, Any] = {
        "name": "tiny",
        "arch": "amd64",
        "format": ImageFormat.QCOW2,
        "url": "https://images.example.test/tiny.qcow2",
    }
    template, ref = templates.register(
        connection,
        account_id=owner.account.id,
        domain_id=owner.domain.id,
        zone_id=zone_id,
        store_id=store_id,
        **(values | columns),
    )
    changes: dict[str, Any] = {"state": state}
    if state is DownloadState.DOWNLOADED:
        file_name = f"{template.uuid}.{template.format.extension}"
        path = f"template/tmpl/{owner.account.id}/{template.id}/{file_name}"
        changes |= {"percent": 100, "install_path": path, "virtual_size_bytes": 1 << 20}
    return template, templates.update_store_ref(connection, ref.id, **changes)
