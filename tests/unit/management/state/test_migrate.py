# SPDX-License-Identifier: Apache-2.0
"""Migrations make the declared schema, and can be reverted and repeated."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from systemvm.host.zone import TrafficType
from systemvm.management.state import (
    address_ranges,
    guest_networks,
    instances,
    machine_data,
    templates,
    zones,
)
from systemvm.management.state.database import Database
from systemvm.management.state.host_state import HostState, host_state
from systemvm.management.state.migrate import downgrade, upgrade
from systemvm.management.state.schema import metadata
from systemvm.management.state.status import BootType, GuestType, InstanceState, InstanceType
from systemvm.wire.storage import ImageFormat

USER_VISIBLE = ["hosts", "image_stores", "templates", "vm_instances", "volumes", "async_jobs", "events"]


def test_migrations_make_the_schema_that_the_code_declares(database: Database) -> None:
    def differences(connection: sa.Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    assert database.run_now(differences) == []


def test_every_user_visible_table_has_owner_zone_and_times(database: Database) -> None:
    wanted = {"id", "uuid", "account_id", "domain_id", "zone_id", "arch", "created", "removed"}
    for name in USER_VISIBLE:
        assert wanted <= set(metadata.tables[name].c.keys()), name


def test_migration_can_be_reverted_and_repeated(database: Database) -> None:
    downgrade(database.engine, "base")
    assert database.run_now(lambda c: sa.inspect(c).get_table_names()) == ["alembic_version"]
    upgrade(database.engine)
    assert set(metadata.tables) <= set(database.run_now(lambda c: sa.inspect(c).get_table_names()))


def test_later_migrations_can_be_reverted_with_rows_in_the_tables(database: Database) -> None:
    vm = database.run_now(
        instances.create, InstanceType.USER, account_id=1, domain_id=1, zone_id=1, name="one"
    )
    database.run_now(instances.add_nic, vm_id=vm.id, device=0, traffic_type="guest", bridge="b", mac="m")
    downgrade(database.engine, "0001")
    upgrade(database.engine)
    assert database.run_now(instances.by_id, vm.id) == vm
    assert [nic.mac for nic in database.run_now(instances.nics_of, vm.id)] == ["m"]


def test_user_data_of_vms_that_were_expunged_before_is_deleted(database: Database) -> None:
    kept, gone = (
        database.run_now(instances.create, InstanceType.USER, account_id=1, domain_id=1, zone_id=1, name=name)
        for name in ("kept", "gone")
    )
    for vm in (kept, gone):
        database.run_now(machine_data.put_user_data, vm.id, b"script")
    database.run_now(instances.remove, gone.id, InstanceState.EXPUNGING)
    downgrade(database.engine, "0050")
    upgrade(database.engine)
    assert database.run_now(machine_data.user_data_of, kept.id) == b"script"
    assert database.run_now(machine_data.user_data_of, gone.id) is None


def test_a_release_without_isolated_networks_has_none_that_everybody_uses(database: Database) -> None:
    [zone, *_] = database.run_now(zones.list_zones)

    def add(guest_type: GuestType) -> tuple[int, int]:
        network = database.run_now(
            guest_networks.rows.insert, zone_id=zone.id, name="n", display_text="n", guest_type=guest_type
        )
        address_range = database.run_now(
            address_ranges.rows.insert,
            zone_id=zone.id,
            traffic_type=TrafficType.GUEST.value,
            cidr="10.1.0.0/24",
            guest_network_id=network.id,
        )
        return network.id, address_range.id

    shared, isolated = add(GuestType.SHARED), add(GuestType.ISOLATED)
    downgrade(database.engine, "0081")
    upgrade(database.engine)
    for made, is_kept in ((shared, True), (isolated, False)):
        assert (database.run_now(guest_networks.rows.by_id, made[0]).removed is None) is is_kept
        assert (database.run_now(address_ranges.rows.by_id, made[1]).removed is None) is is_kept


def test_l2_networks_survive_a_downgrade_as_their_accounts_own(database: Database) -> None:
    [zone, *_] = database.run_now(zones.list_zones)
    made = [
        database.run_now(
            guest_networks.rows.insert,
            zone_id=zone.id, name="n", display_text="n", guest_type=guest_type, account_id=2,
        )
        for guest_type in GuestType
    ]  # fmt: skip
    for network in made[:2]:
        database.run_now(
            address_ranges.rows.insert,
            zone_id=zone.id,
            traffic_type=TrafficType.GUEST.value,
            cidr="10.1.0.0/24",
            guest_network_id=network.id,
        )

    def types() -> list[tuple[GuestType, int | None]]:
        found = (database.run_now(guest_networks.rows.by_id, network.id) for network in made)
        return [(network.guest_type, network.account_id) for network in found]

    downgrade(database.engine, "0100")
    assert types() == [(GuestType.SHARED, 2), (GuestType.ISOLATED, 2), (GuestType.ISOLATED, 2)]
    upgrade(database.engine)
    assert types() == [(guest_type, 2) for guest_type in GuestType]


def test_vms_of_isos_have_them_as_templates_since_revision_0109(database: Database) -> None:
    def register(name: str, image_format: ImageFormat) -> int:
        store = database.run_now(
            zones.put_store, name, zone_id=1, url=f"nfs://192.0.2.1/{name}", host_path=None, nfs_version="4"
        )
        template, _ = database.run_now(
            templates.register, name=name, account_id=1, domain_id=1, store_id=store.id, format=image_format
        )
        return template.id

    iso, template = register("cd", ImageFormat.ISO), register("disk", ImageFormat.QCOW2)

    def add(name: str, **images: int) -> int:
        columns: dict[str, Any] = {"account_id": 1, "domain_id": 1, "zone_id": 1, "name": name} | images
        return database.run_now(instances.create, InstanceType.USER, **columns).id

    of_iso, of_template = (
        add("one", template_id=iso, iso_id=iso),
        add("two", template_id=template, iso_id=iso),
    )
    detached = add("three", template_id=iso)
    downgrade(database.engine, "0107")
    vms = sa.table("vm_instances", sa.column("id"), sa.column("template_id"))
    earlier = sa.select(vms.c.template_id).where(vms.c.id == of_iso)
    assert database.run_now(lambda connection: connection.scalar(earlier)) is None, (
        "as an earlier release had it"
    )
    upgrade(database.engine)
    origins = [
        database.run_now(instances.by_id, each).template_id for each in (of_iso, of_template, detached)
    ]
    assert origins == [iso, template, None]


def test_vms_of_arm_have_booted_by_uefi_since_revision_0110(database: Database) -> None:
    vms = [
        database.run_now(
            instances.create, InstanceType.USER, account_id=1, domain_id=1, zone_id=1, name=arch, arch=arch
        )
        for arch in ("amd64", "arm64")
    ]
    downgrade(database.engine, "0109")
    upgrade(database.engine)
    found = [database.run_now(instances.by_id, vm.id).boot_type for vm in vms]
    assert found == [BootType.BIOS, BootType.UEFI]


def test_reopening_keeps_the_rows(database: Database, tmp_path: Path) -> None:
    again = Database.open(tmp_path / "systemvm.sqlite")
    found = again.run_now(lambda c: c.execute(sa.text("SELECT name FROM zones")).scalars().all())
    again.close()
    assert found == ["zone1"]
    assert (tmp_path / "systemvm.sqlite").stat().st_mode & 0o777 == 0o600


def test_machines_that_ended_under_an_earlier_release_keep_their_state(database: Database) -> None:
    """Before revision 0011, a prefix of the reason recorded it."""
    ended, stopped = (
        database.run_now(
            instances.create,
            InstanceType.CONSOLE_PROXY,
            account_id=1,
            domain_id=1,
            zone_id=1,
            state=InstanceState.STOPPED,
            reason=reason,
        )
        for reason in ("ended: guest-panic", "it was stopped on request")
    )
    downgrade(database.engine, "0010")
    upgrade(database.engine)
    assert host_state(database.run_now(instances.by_id, ended.id)) is HostState.DOWN
    assert host_state(database.run_now(instances.by_id, stopped.id)) is HostState.DISCONNECTED


def test_files_of_templates_deleted_by_an_earlier_release_are_due_for_deletion(database: Database) -> None:
    """Earlier releases recorded it only with the template, where revision 0009 reads it."""
    zone = database.run_now(zones.list_zones)[0]
    store = database.run_now(
        zones.put_store, "one", zone_id=zone.id, url="nfs://192.0.2.1/export", host_path=None, nfs_version="4"
    )

    def register(name: str) -> tuple[templates.Template, templates.StoreRef]:
        return database.run_now(
            templates.register,
            name=name,
            account_id=1,
            domain_id=1,
            store_id=store.id,
            format=ImageFormat.QCOW2,
        )

    (_, kept), (gone, due), (old, removed) = register("kept"), register("gone"), register("old")
    database.run_now(templates.remove, old.id)
    downgrade(database.engine, "0004")
    with database.engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE templates SET removed = '2026-11-01 10:00:00.000000' WHERE id = :id"),
            {"id": gone.id},
        )
    upgrade(database.engine)
    refs = {ref.id: ref for ref in database.run_now(templates.store_refs.all)}
    assert refs[kept.id].delete_requested is None
    assert refs[due.id].delete_requested == datetime(2026, 11, 1, 10, tzinfo=UTC)
    assert (refs[removed.id].delete_requested, refs[removed.id].removed is None) == (None, False)
