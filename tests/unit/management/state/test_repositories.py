# SPDX-License-Identifier: Apache-2.0
"""Repositories on a database: names, addresses, tokens, jobs, sessions, accounts, volumes and events."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Address
from typing import Any

import pytest
import sqlalchemy as sa

from present import present
from systemvm.management.state import (
    accounts,
    addresses,
    console_sessions,
    events,
    instances,
    jobs,
    schema,
    sessions,
    templates,
    volumes,
    zones,
)
from systemvm.management.state.columns import now
from systemvm.management.state.database import Database
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import (
    AccountType,
    InstanceState,
    InstanceType,
    JobStatus,
    SpoolState,
)
from systemvm.wire.storage import DownloadState, ImageFormat

SSVM, CPVM, USER = InstanceType.SECONDARY_STORAGE, InstanceType.CONSOLE_PROXY, InstanceType.USER


def make_vm(connection: sa.Connection, kind: InstanceType = USER) -> instances.Instance:
    return instances.create(connection, kind, account_id=1, zone_id=1)


def test_names_of_all_vms_come_from_one_sequence_and_are_not_reused(database: Database) -> None:
    def work(connection: sa.Connection) -> Any:
        first = [make_vm(connection, kind).instance_name for kind in (SSVM, CPVM, USER)]
        last = instances.by_instance_name(connection, "i-1-3-VM")
        connection.execute(sa.text("DELETE FROM vm_instances WHERE id = :id"), {"id": last.id})
        return [*first, make_vm(connection, SSVM).instance_name]

    assert database.run_now(work) == ["s-1-VM", "v-2-VM", "i-1-3-VM", "s-4-VM"]


def test_vm_is_found_by_name_in_any_case_until_it_is_removed(database: Database) -> None:
    vm = database.run_now(make_vm, SSVM)
    assert database.run_now(instances.by_instance_name, "S-1-vm").id == vm.id
    database.run_now(instances.remove, vm.id, InstanceState.EXPUNGING)
    with pytest.raises(NotFoundError, match="named s-1-VM"):
        database.run_now(instances.by_instance_name, "s-1-VM")
    with pytest.raises(NotFoundError):
        database.run_now(instances.by_uuid, vm.uuid)
    assert database.run_now(instances.by_id, vm.id).state is InstanceState.EXPUNGING


def test_state_changes_only_from_expected_ones(database: Database) -> None:
    vm = database.run_now(make_vm)
    stopped, starting = InstanceState.STOPPED, InstanceState.STARTING
    assert present(database.run_now(instances.change_state, vm.id, [stopped], starting)).state is starting
    assert database.run_now(instances.change_state, vm.id, [stopped], starting) is None


def test_addresses_are_allocated_once_and_released_with_their_vm(database: Database) -> None:
    def take(connection: sa.Connection, /, vm_id: Any, **options: Any) -> Any:
        return addresses.allocate(
            connection,
            zone_id=1,
            traffic_type="public",
            first=IPv4Address("203.0.113.100"),
            last=IPv4Address("203.0.113.101"),
            vm_id=vm_id,
            **options,
        )

    one, two, three = (database.run_now(make_vm) for _ in range(3))
    assert str(database.run_now(take, one.id)) == "203.0.113.100"
    assert str(database.run_now(take, two.id, randomly=True)) == "203.0.113.101"
    with pytest.raises(
        addresses.PoolExhaustedError, match=r"no free public address: all of 203\.0\.113\.100"
    ):
        database.run_now(take, three.id)
    database.run_now(instances.remove, one.id, InstanceState.EXPUNGING)
    assert str(database.run_now(take, three.id)) == "203.0.113.100"
    assert database.run_now(addresses.of_vm, two.id) == {"public": "203.0.113.101"}


def test_address_is_unique_in_its_zone(database: Database) -> None:
    def write(connection: sa.Connection) -> None:
        table = schema.ip_addresses
        row = {"zone_id": 1, "traffic_type": "public", "address": "203.0.113.100", "vm_id": 1}
        connection.execute(table.insert().values(**row))
        connection.execute(table.insert().values(**row))

    database.run_now(make_vm)
    with pytest.raises(sa.exc.IntegrityError):
        database.run_now(write)


def test_nics_are_listed_by_device(database: Database) -> None:
    def add(connection: sa.Connection) -> Any:
        vm = make_vm(connection, SSVM)
        for device in (2, 0, 1):
            mac = f"0e:00:00:00:00:0{device}"
            instances.add_nic(connection, vm_id=vm.id, device=device, traffic_type="x", bridge="br", mac=mac)
        return vm.id

    vm_id = database.run_now(add)
    assert [nic.device for nic in database.run_now(instances.nics_of, vm_id)] == [0, 1, 2]
    assert len(database.run_now(instances.nics_by_vm, [vm_id, 99])[vm_id]) == 3


def test_template_is_ready_after_its_download(database: Database) -> None:
    store = database.run_now(
        zones.put_store, "s", zone_id=1, url="nfs://10.12.0.2/x", host_path=None, nfs_version="4.2"
    )
    template, ref = database.run_now(
        templates.register, name="tiny", account_id=1, store_id=store.id, zone_id=1, format=ImageFormat.QCOW2
    )
    assert template.unique_name.startswith(f"1-{template.id}-")
    assert ref.state is DownloadState.NOT_DOWNLOADED
    assert not ref.is_ready
    done = database.run_now(
        templates.update_store_ref, ref.id, state=DownloadState.DOWNLOADED, percent=100, agent_name="s-1-VM"
    )
    assert done.is_ready
    assert present(database.run_now(templates.store_ref_of_job, ref.job_id)).id == ref.id
    assert database.run_now(templates.store_refs_by_zone, [template.id]) == {(template.id, 1): [done]}
    host = database.run_now(zones.put_host, "h", zone_id=1, arch="amd64", address="10.11.0.1", version="0")
    spool = database.run_now(templates.spool_ref, template.id, host.id)
    assert spool.state is SpoolState.NOT_COPIED
    assert database.run_now(templates.spool_ref, template.id, host.id).id == spool.id
    database.run_now(templates.remove, template.id)
    assert database.run_now(templates.list_all) == []
    assert database.run_now(templates.store_ref_of, template.id) is None


def test_configured_rows_are_updated_and_not_duplicated(database: Database) -> None:
    values: dict[str, Any] = {
        "zone_id": 1,
        "url": "nfs://10.12.0.2/x",
        "host_path": None,
        "nfs_version": "4.2",
    }
    first = database.run_now(zones.put_store, "s", **values)
    second = database.run_now(zones.put_store, "s", **{**values, "nfs_version": "4.1"})
    assert (first.id, second.nfs_version) == (second.id, "4.1")
    assert database.run_now(zones.put_zone, "zone1", arch="arm64").arch == "arm64"
    assert len(database.run_now(zones.list_zones)) == 1


def test_renamed_host_keeps_its_row_and_machines(database: Database) -> None:
    values: dict[str, Any] = {"zone_id": 1, "arch": "amd64", "address": "10.11.0.1", "version": "0"}
    before = database.run_now(zones.put_host, "old-name", **values)
    after = database.run_now(zones.put_host, "new-name", **values)
    assert (after.id, after.name) == (before.id, "new-name")


def test_a_token_is_spent_once_in_time_and_at_its_own_proxy(database: Database) -> None:
    def open_session(connection: sa.Connection, token: Any, lifetime_s: Any = 60) -> Any:
        vm, proxy = make_vm(connection), make_vm(connection, CPVM)
        return console_sessions.create(
            connection,
            account_id=1,
            domain_id=1,
            zone_id=1,
            user_id=1,
            vm_id=vm.id,
            proxy_id=proxy.id,
            token_hash=token,
            token_expires=now() + timedelta(seconds=lifetime_s),
            creator_address="127.0.0.1",
        )

    def spend(token: Any, proxy_id: Any) -> Any:
        return database.run_now(
            console_sessions.spend,
            token,
            proxy_id=proxy_id,
            client_address="127.0.0.1",
            session_expires=now() + timedelta(hours=1),
        )

    good = database.run_now(open_session, "good")
    late = database.run_now(open_session, "late", lifetime_s=-1)
    assert spend("good", late.proxy_id) is None
    assert spend("good", good.proxy_id).uuid == good.uuid
    assert spend("good", good.proxy_id) is None
    assert spend("late", late.proxy_id) is None
    assert spend("never made", good.proxy_id) is None
    assert [one.uuid for one in database.run_now(console_sessions.active, good.proxy_id)] == [good.uuid]
    assert database.run_now(console_sessions.expire) == 1
    assert present(database.run_now(console_sessions.by_token_hash, "late")).close_reason == "expired"
    assert database.run_now(console_sessions.close, good.uuid, "left")
    assert not database.run_now(console_sessions.close, good.uuid, "left again")


def test_a_job_ends_once(database: Database) -> None:
    job = database.run_now(jobs.create, command="stopSystemVm", arguments={"id": "x"}, account_id=1)
    assert job.status is JobStatus.PENDING
    assert [one.uuid for one in database.run_now(jobs.pending)] == [job.uuid]
    database.run_now(jobs.set_progress, job.uuid, 40, "copying")
    ended = database.run_now(jobs.finish, job.uuid, JobStatus.SUCCEEDED, 0, {"systemvm": {}})
    again = database.run_now(jobs.finish, job.uuid, JobStatus.FAILED, 530, {"errorcode": 530})
    assert (ended.status, ended.progress) == (JobStatus.SUCCEEDED, 100)
    assert again == ended
    assert database.run_now(jobs.delete_older, now() + timedelta(seconds=1)) == 1


def test_sessions_end_and_expire(database: Database) -> None:
    def open_session(connection: sa.Connection, cookie: Any, lifetime_s: Any) -> Any:
        return sessions.create(
            connection,
            user_id=1,
            cookie_hash=cookie,
            session_key_hash="k",
            client_address=None,
            expires=now() + timedelta(seconds=lifetime_s),
        )

    one = database.run_now(open_session, "one", 60)
    database.run_now(open_session, "old", -1)
    assert present(database.run_now(sessions.by_cookie_hash, "one")).id == one.id
    assert database.run_now(sessions.by_cookie_hash, "old") is None
    database.run_now(sessions.end, one.id)
    assert database.run_now(sessions.by_cookie_hash, "one") is None
    assert database.run_now(sessions.delete_expired) == 2


def test_new_api_key_replaces_the_old_one(database: Database) -> None:
    def make(connection: sa.Connection) -> Any:
        account = accounts.create_account(connection, "user", AccountType.USER, 1)
        user = accounts.create_user(connection, "u", account, "hash")
        accounts.add_api_key(connection, user.id, "key-1", b"sealed")
        accounts.add_api_key(connection, user.id, "key-2", b"sealed")
        return user

    user = database.run_now(make)
    assert present(database.run_now(accounts.user_by_name, "u")).uuid == user.uuid
    assert "hash" not in repr(user)
    assert database.run_now(accounts.find_api_key, "key-1") is None
    assert present(database.run_now(accounts.find_api_key, "key-2")).user_id == user.id
    for path in ("", "/", "ROOT", "/root"):
        assert present(database.run_now(accounts.domain_by_path, path)).id == 1
    assert database.run_now(accounts.domain_by_path, "/elsewhere") is None


def test_root_volume_is_found_until_it_is_removed(database: Database) -> None:
    def make(connection: sa.Connection) -> Any:
        vm = make_vm(connection)
        return volumes.create(connection, name="ROOT-1", account_id=1, vm_id=vm.id, zone_id=1)

    volume = database.run_now(make)
    assert present(database.run_now(volumes.root_of, volume.vm_id)).id == volume.id
    database.run_now(volumes.remove, volume.id)
    assert database.run_now(volumes.root_of, volume.vm_id) is None


def test_newest_events_come_first(database: Database) -> None:
    for number in range(3):
        database.run_now(events.record, "SSVM.START", f"start {number}", zone_id=1)
    assert [event.description for event in database.run_now(events.newest, 2)] == ["start 2", "start 1"]


@pytest.mark.parametrize(("path", "shown"), [("/", "ROOT"), ("/sales", "ROOT/sales"), ("/a/b", "ROOT/a/b")])
def test_domain_path_is_as_in_cloudstack(path: str, shown: str) -> None:
    assert accounts.Domain(1, "u", "n", path, None).pretty_path == shown
