# SPDX-License-Identifier: Apache-2.0
"""How much of each kind of resource accounts have, and can have, in the answers of accounts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
import sqlalchemy as sa

from executed_statements import executed_statements
from small_cloud import SmallCloud
from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.api.errors import ApiError
from systemvm.management.api.principal import Principal
from systemvm.management.state import resource_counts, schema, snapshots, templates, volumes
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.resource_counts import ResourceType
from systemvm.management.state.status import SnapshotState
from systemvm.management.templates import downloads
from systemvm.wire.storage import DownloadState, DownloadStatus
from user_accounts import new_account
from user_vms import deploy_running, deploy_stopped

MIB, GIB = 1 << 20, 1 << 30
NAMES = {
    "vm": 0, "volume": 2, "snapshot": 3, "template": 4, "network": 6, "cpu": 8, "memory": 9,
    "primarystorage": 10, "secondarystorage": 11,
}  # fmt: skip
KEYS = {f"{name}{end}" for name in NAMES for end in ("limit", "total", "available")}


async def limit(cloud: SmallCloud, name: str, most: int, owner: Principal | None = None) -> None:
    owner = owner or cloud.user
    await cloud.call(
        "updateResourceLimit", resourcetype=NAMES[name], max=most, account=owner.account.name,
        domainid=owner.domain.uuid,
    )  # fmt: skip


async def account_of(cloud: SmallCloud, name: str = "users", **parameters: Any) -> dict[str, Any]:
    [found] = (await cloud.call("listAccounts", name=name, **parameters))["account"]
    return dict(found)


def use_of(answer: dict[str, Any], name: str) -> tuple[Any, Any, Any]:
    return answer[f"{name}limit"], answer[f"{name}total"], answer[f"{name}available"]


def add_volume(cloud: SmallCloud, size_bytes: int, owner: Principal | None = None) -> None:
    cloud.database.run_now(
        volumes.create, name="disk", type="DATADISK", vm_id=None, account_id=(owner or cloud.user).account.id,
        zone_id=cloud.zone.id, host_id=cloud.host.id, size_bytes=size_bytes,
    )  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_an_account_has_limit_total_and_what_is_left_of_each_kind(cloud: SmallCloud) -> None:
    _, ref = cloud.add_template(owner=cloud.user)
    cloud.database.run_now(templates.update_store_ref, ref.id, physical_size_bytes=768 * MIB)
    add_volume(cloud, 2 * GIB + 1)
    for name in NAMES:
        await limit(cloud, name, 5)
    answer = await account_of(cloud)
    assert {name: use_of(answer, name) for name in NAMES} == {
        "vm": ("5", 0, "5"),
        "volume": ("5", 1, "4"),
        "snapshot": ("5", 0, "5"),
        "template": ("5", 1, "4"),
        "network": ("5", 0, "5"),
        "cpu": ("5", 0, "5"),
        "memory": ("5", 0, "5"),
        "primarystorage": ("5", 2, "3"),
        "secondarystorage": ("5", 0.75, "4.25"),
    }
    assert isinstance(answer["primarystoragetotal"], int)
    assert isinstance(answer["secondarystoragetotal"], float)


@pytest_twisted.ensureDeferred
async def test_defaults_hold_for_accounts_without_a_limit(cloud: SmallCloud) -> None:
    assert use_of(await account_of(cloud), "volume") == ("Unlimited", 0, "Unlimited")
    await cloud.call("updateConfiguration", name="max.account.volumes", value="3")
    await cloud.call("updateConfiguration", name="max.account.primary.storage", value="7")
    cloud.settings.storage = SecondaryStorageConfig(max_account_secondary_storage_gib=4)
    answer = await account_of(cloud)
    assert use_of(answer, "volume") == ("3", 0, "3")
    assert use_of(answer, "primarystorage") == ("7", 0, "7")
    assert use_of(answer, "secondarystorage") == ("4", 0, "4")
    await limit(cloud, "volume", -1)
    assert use_of(await account_of(cloud), "volume") == ("Unlimited", 0, "Unlimited")


@pytest_twisted.ensureDeferred
async def test_administrators_are_unlimited_and_counted(cloud: SmallCloud) -> None:
    await cloud.call("updateConfiguration", name="max.account.volumes", value="3")
    cloud.settings.storage = SecondaryStorageConfig(max_account_secondary_storage_gib=4)
    add_volume(cloud, GIB, cloud.admin)
    answer = await account_of(cloud, "admin")
    assert use_of(answer, "volume") == ("Unlimited", 1, "Unlimited")
    assert {answer[f"{name}limit"] for name in NAMES} == {"Unlimited"}


@pytest_twisted.ensureDeferred
async def test_nothing_is_left_above_a_limit_that_was_lowered(cloud: SmallCloud) -> None:
    _, ref = cloud.add_template(owner=cloud.user)
    cloud.database.run_now(templates.update_store_ref, ref.id, physical_size_bytes=3 * GIB // 2)
    for _ in range(2):
        add_volume(cloud, 2 * GIB)
    for name in ("volume", "primarystorage", "secondarystorage"):
        await limit(cloud, name, 1)
    answer = await account_of(cloud)
    assert use_of(answer, "volume") == ("1", 2, "0")
    assert use_of(answer, "primarystorage") == ("1", 4, "0")
    assert use_of(answer, "secondarystorage") == ("1", 1.5, "0")


@pytest_twisted.ensureDeferred
async def test_vms_and_what_they_need_are_counted_together(cloud: SmallCloud) -> None:
    await deploy_running(cloud, cloud.user)
    vm = await deploy_stopped(cloud, cloud.user)
    answer = await account_of(cloud)
    assert (answer["vmtotal"], answer["vmrunning"], answer["vmstopped"]) == (2, 1, 1)
    assert (answer["cputotal"], answer["memorytotal"]) == (2 * vm.vcpus, 2 * vm.memory_mib)


@pytest_twisted.ensureDeferred
async def test_a_page_of_accounts_has_the_use_of_each(cloud: SmallCloud) -> None:
    ann, bob = [await new_account(cloud, name) for name in ("ann", "bob")]
    for owner, count in ((ann, 1), (bob, 3)):
        for _ in range(count):
            add_volume(cloud, GIB, owner)
    await limit(cloud, "volume", 2, ann)
    await limit(cloud, "volume", 9, bob)
    with executed_statements(cloud.database.engine) as of_page:
        rows = (await cloud.call("listAccounts"))["account"]
    found = {row["name"]: use_of(row, "volume") for row in rows}
    assert found == {
        "admin": ("Unlimited", 0, "Unlimited"),
        "users": ("Unlimited", 0, "Unlimited"),
        "ann": ("2", 1, "1"),
        "bob": ("9", 3, "6"),
    }
    of_volumes = [query for query in of_page if "FROM volumes" in query]
    assert len(of_volumes) == 2, "one for their number and one for their size, whatever the accounts"
    created = await cloud.call(
        "createAccount", username="eve", password="correct horse", firstname="E", lastname="V",
        email="eve@example.test",
    )  # fmt: skip
    assert use_of(created["account"], "primarystorage") == ("Unlimited", 0, "Unlimited")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("details", ["min", "MIN", "min,min"])
async def test_without_details_nothing_is_counted(cloud: SmallCloud, details: str) -> None:
    add_volume(cloud, GIB)
    with executed_statements(cloud.database.engine) as executed:
        answer = await account_of(cloud, details=details)
    assert not KEYS & set(answer)
    assert not {"vmrunning", "vmstopped"} & set(answer)
    assert [row["username"] for row in answer["user"]] == ["ulla"]
    tables = ("volumes", "snapshots", "templates", "vm_instances", "guest_networks", "resource_limits")
    assert [query for query in executed if any(f"FROM {table}" in query for table in tables)] == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("details", ["all", "resource", "min,resource"])
async def test_details_that_contain_resources_have_all_keys(cloud: SmallCloud, details: str) -> None:
    assert set(await account_of(cloud, details=details)) >= KEYS | {"vmrunning", "vmstopped"}


@pytest_twisted.ensureDeferred
async def test_unknown_details_are_refused(cloud: SmallCloud) -> None:
    with pytest.raises(ApiError) as refused:
        await cloud.call("listAccounts", details="min,everything")
    assert refused.value.parameter == "details"


def change(table: sa.Table, **values: Any) -> Callable[[Connection], object]:
    return lambda connection: connection.execute(table.update().values(**values))


VMS, DISKS, REFS = schema.vm_instances, schema.volumes, schema.template_store_refs
CHANGES: dict[str, tuple[ResourceType, Callable[[Connection], object]]] = {
    "a VM is gone": (ResourceType.user_vm, change(VMS, removed=now())),
    "a VM has another owner": (ResourceType.user_vm, change(VMS, account_id=1)),
    "a VM has more CPUs": (ResourceType.cpu, change(VMS, vcpus=16)),
    "a VM has more memory": (ResourceType.memory, change(VMS, memory_mib=12345)),
    "a volume is gone": (ResourceType.volume, change(DISKS, removed=now())),
    "a volume has grown": (ResourceType.primary_storage, change(DISKS, size_bytes=99 * GIB)),
    "a volume is as large as its template": (ResourceType.primary_storage, change(DISKS, size_bytes=None)),
    "a snapshot failed": (ResourceType.snapshot, change(schema.snapshots, state=SnapshotState.ERROR)),
    "a snapshot is gone": (ResourceType.snapshot, change(schema.snapshots, removed=now())),
    "a snapshot is a copy": (ResourceType.snapshot, change(schema.snapshots, copy_of=1)),
    "a template is gone": (ResourceType.template, change(schema.templates, removed=now())),
    "a template is hidden": (
        ResourceType.template,
        change(schema.templates, type=templates.HIDDEN_TYPES[0]),
    ),
    "a template's file is larger": (
        ResourceType.secondary_storage,
        change(REFS, physical_size_bytes=50 * GIB),
    ),
    "a template is downloaded again": (
        ResourceType.secondary_storage,
        change(REFS, state=DownloadState.NOT_DOWNLOADED),
    ),
    "a template's file is deleted": (ResourceType.secondary_storage, change(REFS, delete_requested=now())),
    "a template's file is gone": (ResourceType.secondary_storage, change(REFS, removed=now())),
    "a template has another owner": (
        ResourceType.secondary_storage,
        change(schema.templates, account_id=1),
    ),
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("what", CHANGES)
async def test_a_count_is_kept_until_what_it_was_counted_from_changes(cloud: SmallCloud, what: str) -> None:
    kind, write = CHANGES[what]
    number = cloud.user.account.id
    await fill(cloud)

    async def count() -> int:
        found = await cloud.database.read(resource_counts.of_accounts, [number], [kind])
        return found[number][kind]

    before = await count()
    with executed_statements(cloud.database.engine) as executed:
        assert await count() == before
    assert [query for query in executed if query.startswith("SELECT")] == []
    cloud.database.run_now(write)
    after = cloud.database.run_now(resource_counts.of_accounts, [number], [kind])[number][kind]
    assert await count() == after != before


async def fill(cloud: SmallCloud) -> None:
    """Give a user something of each kind."""
    template, ref = cloud.add_template(owner=cloud.user)
    cloud.database.run_now(
        templates.update_store_ref, ref.id, physical_size_bytes=GIB, virtual_size_bytes=3 * GIB
    )
    vm = await deploy_stopped(cloud, cloud.user, template)
    cloud.database.run_now(change(DISKS, size_bytes=5 * GIB))
    [root] = cloud.database.run_now(volumes.rows.all, schema.volumes.c.vm_id == vm.id)
    cloud.database.run_now(
        snapshots.insert, name="s", account_id=cloud.user.account.id, volume_id=root.id,
        zone_id=cloud.zone.id, store_id=cloud.store.id, host_id=cloud.host.id, state=SnapshotState.BACKED_UP,
    )  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_a_download_that_goes_on_has_nothing_counted_again(cloud: SmallCloud) -> None:
    await fill(cloud)
    _, ref = cloud.add_template(state=DownloadState.NOT_DOWNLOADED, owner=cloud.user)
    agent = cloud.ssvm.instance_name
    cloud.database.run_now(templates.update_store_ref, ref.id, agent_name=agent)
    number = cloud.user.account.id

    def report(received: int, state: DownloadState = DownloadState.DOWNLOAD_IN_PROGRESS, **more: Any) -> None:
        status = DownloadStatus(ref.job_id, state, received_bytes=received, total_bytes=GIB, **more)
        assert cloud.database.run_now(downloads.apply_status, agent, status) is not None

    async def stored() -> int:
        found = await cloud.database.read(resource_counts.of_accounts, [number])
        return found[number][ResourceType.secondary_storage]

    report(1)
    before = await stored()
    report(1000)
    report(1000)  # the same again
    with executed_statements(cloud.database.engine) as executed:
        assert await stored() == before
    assert [query for query in executed if query.startswith("SELECT")] == []
    report(GIB, DownloadState.DOWNLOADED, install_path="a/b", physical_size_bytes=GIB)
    assert await stored() == before + GIB
