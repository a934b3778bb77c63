# SPDX-License-Identifier: Apache-2.0
"""Usage records: what an account had in a period, for how long, and whose records a caller gets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_twisted
import sqlalchemy as sa

from api_requests import NOWHERE, refusal
from present import present
from small_cloud import SmallCloud
from systemvm.management.api.commands.usage_records import ABSENT
from systemvm.management.api.errors import ErrorCode
from systemvm.management.api.principal import Principal
from systemvm.management.state import schema, templates
from systemvm.management.state.accounts import account_rows
from systemvm.management.state.columns import new_uuid, now
from systemvm.management.state.status import GuestType, InstanceType
from systemvm.management.state.usage_records import UsageType
from systemvm.management.virtual_machines.restoration import Restoration, _claim
from systemvm.wire.storage import DownloadState, ImageFormat
from user_vms import deploy_stopped, root_of

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
DAY = {"startdate": "2026-03-10", "enddate": "2026-03-10"}
HOUR = timedelta(hours=1)


async def records(
    cloud: SmallCloud, as_user: Principal | None = None, /, **which: Any
) -> list[dict[str, Any]]:
    answer = await cloud.call("listUsageRecords", as_user, **(DAY | which))
    found: list[dict[str, Any]] = answer.get("usagerecord", [])
    assert answer.get("count", 0) >= len(found)
    return found


def hours(found: list[dict[str, Any]]) -> dict[tuple[int, str], float]:
    return {(each["usagetype"], each["name"]): float(each["rawusage"]) for each in found}


def change(cloud: SmallCloud, table: sa.Table, number: int, **columns: Any) -> None:
    cloud.database.run_now(
        lambda connection: connection.execute(table.update().where(table.c.id == number).values(**columns))
    )


def add_image(cloud: SmallCloud, owner: Principal, began: datetime, **columns: Any) -> tuple[str, int]:
    """Add a template with one copy that exists since then; return its UUID and the copy's number."""
    template, ref = cloud.add_template(owner=owner, **columns)
    change(cloud, schema.template_store_refs, ref.id, created=began, physical_size_bytes=1000)
    return template.uuid, ref.id


async def add_machine(cloud: SmallCloud, owner: Principal, name: str, began: datetime, **more: Any) -> str:
    template, ref = cloud.add_template(owner=owner)
    change(cloud, schema.template_store_refs, ref.id, created=NOON + 90 * 24 * HOUR)
    vm = await deploy_stopped(cloud, owner, template)
    change(cloud, schema.vm_instances, vm.id, created=began, name=name, **more)
    cloud.database.run_now(
        lambda connection: connection.execute(
            schema.volumes.update()
            .where(schema.volumes.c.vm_id == vm.id)
            .values(created=began, name=f"ROOT-{name}", **more)
        )
    )
    return vm.uuid


@pytest_twisted.ensureDeferred
async def test_a_record_is_the_part_of_the_period_in_which_the_object_existed(cloud: SmallCloud) -> None:
    uuid = await add_machine(cloud, cloud.user, "all-day", NOON - 48 * HOUR)
    await add_machine(cloud, cloud.user, "half", NOON)
    await add_machine(cloud, cloud.user, "brief", NOON - HOUR, removed=NOON + HOUR / 2)
    await add_machine(cloud, cloud.user, "before", NOON - 48 * HOUR, removed=NOON - 12 * HOUR)
    await add_machine(cloud, cloud.user, "after", NOON + 12 * HOUR)
    found = await records(cloud, cloud.user)
    assert hours(found) == {
        (2, "all-day"): 24, (2, "half"): 12, (2, "brief"): 1.5,
        (6, "ROOT-all-day"): 24, (6, "ROOT-half"): 12, (6, "ROOT-brief"): 1.5,
    }  # fmt: skip
    first = found[0]
    assert (first["usageid"], first["virtualmachineid"]) == (uuid, uuid)
    assert (first["rawusage"], first["usage"]) == ("24", "24 Hrs")
    assert (first["cpunumber"], first["memory"]) == (1, 64)
    assert first["description"] == "Allocated Vm Usage: all-day"
    assert (first["account"], first["domain"], first["domainpath"]) == ("users", "ROOT", "ROOT")
    assert (first["startdate"], first["enddate"]) == ("2026-03-10T00:00:00+0000", "2026-03-10T23:59:59+0000")
    assert found[3]["size"] == 1 << 20
    assert "virtualmachineid" not in found[3]


@pytest_twisted.ensureDeferred
async def test_times_bound_a_period_as_days_do(cloud: SmallCloud) -> None:
    await add_machine(cloud, cloud.user, "one", NOON)
    found = await records(cloud, startdate="2026-03-10 11:00:00", enddate="2026-03-10 12:59:59", type=2)
    assert hours(found) == {(2, "one"): 1}


@pytest_twisted.ensureDeferred
async def test_the_future_is_not_used(cloud: SmallCloud) -> None:
    await add_machine(cloud, cloud.user, "one", now() - HOUR)
    found = await records(cloud, startdate="2020-01-01", enddate="9000-01-01", type=2)
    assert 1 <= float(found[0]["rawusage"]) < 2
    assert await records(cloud, startdate="8999-01-01", enddate="9000-01-01") == []


@pytest_twisted.ensureDeferred
async def test_copies_of_an_image_in_a_zone_are_one_record(cloud: SmallCloud) -> None:
    uuid, ref_id = add_image(cloud, cloud.user, NOON, name="twice")
    template = cloud.database.run_now(templates.by_uuid, uuid)

    def copy(connection: sa.Connection) -> None:
        connection.execute(
            schema.template_store_refs.insert().values(
                template_id=template.id, store_id=cloud.store.id, job_id=NOWHERE, physical_size_bytes=900,
                state=DownloadState.DOWNLOADED, created=NOON + HOUR, delete_requested=NOON + 3 * HOUR,
            )
        )  # fmt: skip

    cloud.database.run_now(copy)
    [found] = await records(cloud, type=7)
    assert (found["rawusage"], found["size"], found["virtualsize"]) == ("12", 1000, 1 << 20)
    assert (found["zoneid"], found["usageid"]) == (cloud.zone.uuid, uuid)
    change(cloud, schema.template_store_refs, ref_id, delete_requested=NOON + 2 * HOUR)
    assert hours(await records(cloud, type=7)) == {(7, "twice"): 3}
    change(cloud, schema.template_store_refs, ref_id, state=DownloadState.DOWNLOAD_ERROR)
    assert hours(await records(cloud, type=7)) == {(7, "twice"): 2}


@pytest_twisted.ensureDeferred
async def test_isos_are_not_templates_and_hidden_images_are_neither(cloud: SmallCloud) -> None:
    add_image(cloud, cloud.user, NOON, name="cd", format=ImageFormat.ISO)
    add_image(cloud, cloud.user, NOON, name="t")
    add_image(cloud, cloud.user, NOON, name="export", type=templates.EXPORT)
    assert hours(await records(cloud)) == {(7, "t"): 12, (8, "cd"): 12}
    assert hours(await records(cloud, type=8)) == {(8, "cd"): 12}


@pytest_twisted.ensureDeferred
async def test_snapshots_and_networks_of_accounts_have_records(cloud: SmallCloud) -> None:
    await add_machine(cloud, cloud.user, "vm", NOON)
    user = cloud.user.account

    def add(connection: sa.Connection) -> None:
        volume = connection.scalar(sa.select(schema.volumes.c.id))
        owned = {"account_id": user.id, "domain_id": user.domain_id, "zone_id": cloud.zone.id}
        for name, size in (("done", 500), ("failed", None)):
            connection.execute(
                schema.snapshots.insert().values(
                    name=name, volume_id=volume, store_id=cloud.store.id, host_id=cloud.host.id,
                    created=NOON, physical_size_bytes=size, size_bytes=4096, **owned,
                )
            )  # fmt: skip
        for name, owner in (("mine", user.id), ("shared", None)):
            connection.execute(
                schema.guest_networks.insert().values(
                    zone_id=cloud.zone.id, name=name, display_text=name, account_id=owner, created=NOON,
                    guest_type=GuestType.SHARED if owner is None else GuestType.L2,
                )
            )  # fmt: skip

    cloud.database.run_now(add)
    [snapshot] = await records(cloud, type=9)
    assert (snapshot["name"], snapshot["size"], snapshot["virtualsize"]) == ("done", 500, 4096)
    assert hours(await records(cloud, type=30)) == {(30, "mine"): 12}


@pytest_twisted.ensureDeferred
async def test_the_disk_of_a_restoration_that_did_not_succeed_has_no_record(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud)
    wanted = Restoration(vm.id, present(vm.template_id), new_uuid(), was_running=False)
    cloud.database.run_now(_claim, wanted)
    [root] = await records(cloud, type=6, startdate=str(vm.created.date()), enddate="9000-01-01")
    assert root["usageid"] == root_of(cloud, vm).uuid


@pytest_twisted.ensureDeferred
async def test_system_vms_are_of_no_account(cloud: SmallCloud) -> None:
    vm = cloud.add_system_vm(InstanceType.CONSOLE_PROXY)
    change(cloud, schema.vm_instances, vm.id, created=NOON)
    assert await records(cloud) == []


@pytest_twisted.ensureDeferred
async def test_a_record_is_found_by_its_object_its_name_and_its_page(cloud: SmallCloud) -> None:
    one = await add_machine(cloud, cloud.user, "one", NOON)
    await add_machine(cloud, cloud.user, "two", NOON)
    assert hours(await records(cloud, type=2, usageid=one)) == {(2, "one"): 12}
    assert await records(cloud, type=6, usageid=one) == []
    assert hours(await records(cloud, keyword="ROOT-T")) == {(6, "ROOT-two"): 12}
    answer = await cloud.call("listUsageRecords", page=2, pagesize=3, **DAY)
    assert (answer["count"], [each["name"] for each in answer["usagerecord"]]) == (4, ["ROOT-two"])
    everything = await cloud.call("listUsageRecords", pagesize=-1, **DAY)
    assert len(everything["usagerecord"]) == 4


@pytest_twisted.ensureDeferred
async def test_tags_come_when_they_are_asked_for(cloud: SmallCloud) -> None:
    uuid = await add_machine(cloud, cloud.user, "one", NOON)
    wanted = {"tags": [{"key": "cost", "value": "7"}], "resourceids": uuid, "resourcetype": "UserVm"}
    await cloud.job("createTags", **wanted)
    assert (await records(cloud, type=2))[0].get("tags", []) == []
    [tag] = (await records(cloud, type=2, includetags="true"))[0]["tags"]
    assert (tag["key"], tag["value"]) == ("cost", "7")


@pytest_twisted.ensureDeferred
async def test_users_get_their_own_and_administrators_all(cloud: SmallCloud) -> None:
    await add_machine(cloud, cloud.user, "theirs", NOON)
    await add_machine(cloud, cloud.admin, "admins", NOON)
    user, admin = cloud.user.account, cloud.admin.account
    both = {(2, "theirs"): 12, (2, "admins"): 12}
    assert hours(await records(cloud, type=2)) == both
    assert hours(await records(cloud, cloud.user, type=2, listall="true")) == {(2, "theirs"): 12}
    for which in ({"account": "users"}, {"accountid": user.uuid}):
        assert hours(await records(cloud, type=2, **which)) == {(2, "theirs"): 12}, which
    error = await refusal(cloud, "listUsageRecords", cloud.user, **DAY, account="admin")
    assert error.code is ErrorCode.UNAUTHORIZED
    strangers = await refusal(cloud, "listUsageRecords", cloud.user, **DAY, accountid=admin.uuid)
    nobodys = await refusal(cloud, "listUsageRecords", cloud.user, **DAY, accountid=NOWHERE)
    assert strangers.message.replace(admin.uuid, NOWHERE) == nobodys.message
    assert await records(cloud, accountid=admin.uuid, account="users") == []
    cloud.database.run_now(account_rows.update, user.id, removed=now())
    assert hours(await records(cloud, type=2, accountid=user.uuid)) == {(2, "theirs"): 12}


@pytest.mark.parametrize("number", sorted(ABSENT))
@pytest_twisted.ensureDeferred
async def test_a_type_that_is_not_counted_is_refused_with_the_reason(cloud: SmallCloud, number: int) -> None:
    error = await refusal(cloud, "listUsageRecords", type=number, **DAY)
    name, why = ABSENT[number]
    assert error.code is ErrorCode.PARAMETER
    assert error.message.endswith(f"{number}, {name}, has no records in this release: {why}")
    assert "6 VOLUME" in error.hint


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "99"},
        {"type": "0"},
        {"type": "VOLUME"},
        {"usageid": NOWHERE},
        {"type": "2", "usageid": "one"},
        {"startdate": "2026-03-11"},
        {"startdate": ""},
        {"enddate": ""},
        {"startdate": "yesterday"},
        {"oldformat": "true"},
        {"accountid": NOWHERE},
        {"projectid": NOWHERE},
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_names_no_record_is_refused(cloud: SmallCloud, wrong: dict[str, str]) -> None:
    error = await refusal(cloud, "listUsageRecords", **(DAY | wrong))
    assert error.code is ErrorCode.PARAMETER


@pytest_twisted.ensureDeferred
async def test_the_types_are_those_that_have_records(cloud: SmallCloud) -> None:
    found = (await cloud.call("listUsageTypes", cloud.user))["usagetype"]
    assert [each["id"] for each in found] == [2, 6, 7, 8, 9, 30]
    assert found[1] == {"id": 6, "name": "VOLUME", "description": "Volume Usage"}
    assert not {kind.number for kind in UsageType} & ABSENT.keys()
    assert (await cloud.call("listUsageTypes", keyword="iso"))["usagetype"] == [found[3]]
