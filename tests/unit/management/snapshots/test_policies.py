# SPDX-License-Identifier: Apache-2.0
"""Policies that take snapshots by a schedule, as the API makes them and the daemon follows them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_twisted

from present import present
from settling import settled
from small_cloud import SmallCloud
from snapshot_store import SnapshotStore
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.snapshots.errors import SnapshotRequestError
from systemvm.management.snapshots.transitions import NewSnapshot
from systemvm.management.state import accounts, snapshot_policies, snapshots, volumes, zones
from systemvm.management.state.columns import now
from systemvm.management.state.snapshot_policies import SnapshotPolicy
from systemvm.management.state.status import SnapshotState
from systemvm.management.state.volumes import Volume
from systemvm.rpc.core.errors import RpcError
from systemvm.wire.snapshot import SNAPSHOT_DELETE
from user_vms import deploy_running

GIB = 1 << 30


async def root_disk(cloud: SmallCloud, as_user: Any = None) -> Volume:
    vm = await deploy_running(cloud, *([as_user] if as_user else []))
    volume = present(cloud.database.run_now(volumes.root_of, vm.id))
    cloud.primary.sizes[volume.uuid] = 2 * GIB
    return volume


async def put(cloud: SmallCloud, volume: Volume, as_user: Any = None, **changes: Any) -> SnapshotPolicy:
    wanted = {"intervaltype": "daily", "schedule": "30:02", "timezone": "Europe/Berlin", "maxsnaps": 2}
    answer = await cloud.call("createSnapshotPolicy", as_user, volumeid=volume.uuid, **wanted | changes)
    return cloud.database.run_now(snapshot_policies.by_uuid, answer["snapshotpolicy"]["id"])


def make_due(cloud: SmallCloud, policy: SnapshotPolicy, since: timedelta = timedelta(days=3)) -> None:
    cloud.database.run_now(snapshot_policies.update, policy.id, next_run=now() - since)


async def listed(cloud: SmallCloud, **parameters: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await cloud.call("listSnapshots", **parameters)).get("snapshot", [])
    return found


@pytest_twisted.ensureDeferred
async def test_a_volume_has_one_policy_of_each_interval(cloud: SmallCloud) -> None:
    volume = await root_disk(cloud)
    await put(cloud, volume)
    changed = await put(cloud, volume, schedule="15:03", maxsnaps=3)
    hourly = await put(cloud, volume, intervaltype="HOURLY", schedule="5", timezone="UTC")
    found = (await cloud.call("listSnapshotPolicies", volumeid=volume.uuid))["snapshotpolicy"]
    assert [(each["id"], each["intervaltype"], each["schedule"], each["maxsnaps"]) for each in found] == [
        (changed.uuid, 1, "15:03", 3),
        (hourly.uuid, 0, "5", 2),
    ]
    assert datetime.fromisoformat(found[0]["nextrun"]) > now()
    await cloud.call("deleteSnapshotPolicies", id=changed.uuid)
    found = (await cloud.call("listSnapshotPolicies"))["snapshotpolicy"]
    assert [each["id"] for each in found] == [hourly.uuid]
    again = await put(cloud, volume)
    await cloud.call("deleteSnapshotPolicies", ids=f"{hourly.uuid},{again.uuid}")
    assert await cloud.call("listSnapshotPolicies") == {}


@pytest_twisted.ensureDeferred
async def test_what_is_due_is_taken_once_and_the_oldest_deleted(cloud: SmallCloud) -> None:
    store = SnapshotStore.of(cloud)
    volume = await root_disk(cloud)
    by_hand = await cloud.job("createSnapshot", volumeid=volume.uuid)
    policy = await put(cloud, volume)
    assert await cloud.snapshot_policies.take_due() == 0, "its time is to come"
    for turn in range(4):
        make_due(cloud, policy)
        assert await cloud.snapshot_policies.take_due() == 1, "one for three days that were missed"
        assert await cloud.snapshot_policies.take_due() == 0
        await settled(cloud.database)
        taken = await listed(cloud, intervaltype="DAILY")
        assert [each["state"] for each in taken] == ["BackedUp"] * min(turn + 1, 2)
        assert present(cloud.database.run_now(snapshot_policies.by_id, policy.id).next_run) > now()
    assert [each["snapshottype"] for each in await listed(cloud)] == ["MANUAL", "DAILY", "DAILY"]
    assert by_hand.instance_uuid in store.files(), "only its own are deleted"
    await cloud.call("deleteSnapshotPolicies", id=policy.uuid)
    assert len(await listed(cloud)) == 3, "the snapshots stay"


@pytest_twisted.ensureDeferred
async def test_a_turn_is_skipped_while_the_one_before_is_being_taken(cloud: SmallCloud) -> None:
    SnapshotStore.of(cloud)
    volume = await root_disk(cloud)
    policy = await put(cloud, volume)
    left = await cloud.snapshots.create(NewSnapshot(volume.id, None, None, "DAILY"))
    make_due(cloud, policy)
    assert await cloud.snapshot_policies.take_due() == 0
    assert present(cloud.database.run_now(snapshot_policies.by_id, policy.id).next_run) > now()
    found = (await cloud.call("listEvents", type="SNAPSHOT.CREATE"))["event"]
    assert any("the one before is still being taken" in each["description"] for each in found)
    cloud.database.run_now(snapshots.update, left.id, state=SnapshotState.ERROR)
    make_due(cloud, policy)
    assert await cloud.snapshot_policies.take_due() == 1


@pytest_twisted.ensureDeferred
async def test_a_disabled_account_and_a_destroyed_vm_get_no_snapshots(cloud: SmallCloud) -> None:
    SnapshotStore.of(cloud)
    volume = await root_disk(cloud, cloud.user)
    policy = await put(cloud, volume, cloud.user)
    account = cloud.user.account

    async def turn() -> list[str]:
        make_due(cloud, policy)
        begun = await cloud.snapshot_policies.take_due()
        await settled(cloud.database)
        found = (await cloud.call("listEvents", type="SNAPSHOT.CREATE", listall="true")).get("event", [])
        skipped = [each["description"] for each in found if "of this turn" in each["description"]]
        return ["taken"] * begun or [skipped[0].partition("turn: ")[2]]

    await cloud.machines.destroy(present(volume.vm_id))
    assert await turn() == [f"{cloud.instance(present(volume.vm_id)).name} is Destroyed"]
    await cloud.machines.recover(present(volume.vm_id))
    cloud.database.run_now(accounts.update_account, account.id, state=accounts.DISABLED)
    assert await turn() == [f"account {account.name} is disabled"]
    cloud.database.run_now(accounts.update_account, account.id, state="enabled")
    assert await turn() == ["taken"]


@pytest_twisted.ensureDeferred
async def test_a_turn_that_cannot_be_taken_leaves_an_event_and_the_next_one(cloud: SmallCloud) -> None:
    SnapshotStore.of(cloud)
    volume = await root_disk(cloud)
    policy = await put(cloud, volume)
    cloud.database.run_now(zones.store_rows.update, cloud.store.id, host_path=None)
    make_due(cloud, policy)
    assert await cloud.snapshot_policies.take_due() == 0
    assert await listed(cloud) == []
    found = (await cloud.call("listEvents", type="SNAPSHOT.CREATE"))["event"]
    assert "has no daily snapshot of this turn: zone" in found[0]["description"]
    assert present(cloud.database.run_now(snapshot_policies.by_id, policy.id).next_run) > now()


@pytest_twisted.ensureDeferred
async def test_what_a_killed_daemon_began_without_a_job_is_continued(cloud: SmallCloud) -> None:
    store = SnapshotStore.of(cloud)
    volume = await root_disk(cloud)
    await put(cloud, volume)
    left = await cloud.snapshots.create(NewSnapshot(volume.id, None, None, "DAILY"))
    await cloud.snapshot_policies.start()
    await settled(cloud.database)
    cloud.snapshot_policies.stop()
    assert cloud.database.run_now(snapshots.by_id, left.id).state is SnapshotState.BACKED_UP
    assert store.files().keys() == {left.uuid}


@pytest_twisted.ensureDeferred
async def test_a_deletion_that_fails_leaves_the_new_snapshot_taken(cloud: SmallCloud) -> None:
    store = SnapshotStore.of(cloud)
    volume = await root_disk(cloud)
    policy = await put(cloud, volume, maxsnaps=1)
    make_due(cloud, policy)
    await cloud.snapshot_policies.take_due()
    await settled(cloud.database)
    delete = cloud.ssvm_peer.answers[SNAPSHOT_DELETE]
    [first] = await listed(cloud)

    def hang(place: Any) -> Any:
        return delete(place) if place.snapshot_id != first["id"] else RpcError.refused("x", "store hangs")

    cloud.hypervisor.disks_of.clear()  # the next one is whole: the first one is not needed for it
    cloud.ssvm_peer.answers[SNAPSHOT_DELETE] = hang
    make_due(cloud, policy)
    await cloud.snapshot_policies.take_due()
    await settled(cloud.database)
    [second] = await listed(cloud)
    assert (second["id"] != first["id"], second["state"]) == (True, "BackedUp")
    assert store.files().keys() == {first["id"], second["id"]}
    cloud.ssvm_peer.answers[SNAPSHOT_DELETE] = delete
    await cloud.snapshots.finish_deletions()
    assert store.files().keys() == {second["id"]}


@pytest_twisted.ensureDeferred
async def test_a_policy_ends_with_its_volume(cloud: SmallCloud) -> None:
    SnapshotStore.of(cloud)
    volume = await root_disk(cloud)
    policy = await put(cloud, volume)
    make_due(cloud, policy)
    await cloud.machines.destroy(present(volume.vm_id), expunge=True)
    assert await cloud.snapshot_policies.take_due() == 0
    assert await cloud.call("listSnapshotPolicies") == {}


@pytest_twisted.ensureDeferred
async def test_refusals_name_the_parameter_and_what_would_be_accepted(cloud: SmallCloud) -> None:
    volume = await root_disk(cloud)
    for wrong, says in (
        ({"timezone": "Europe/Nowhere"}, "timezone: 'Europe/Nowhere' is not a time zone"),
        ({"timezone": "../../etc/passwd"}, "is not a time zone"),
        ({"schedule": "25:30"}, "schedule: hour must be 0 to 23"),
        ({"maxsnaps": 0}, "maxsnaps: 0 is not 1 to 8"),
        ({"maxsnaps": 9}, "maxsnaps: 9 is not 1 to 8"),
    ):
        with pytest.raises(SnapshotRequestError, match=says):
            await put(cloud, volume, **wrong)
    await cloud.call("updateConfiguration", name="snapshot.max.daily", value="9")
    await put(cloud, volume, maxsnaps=9)
    with pytest.raises(ApiError, match="intervaltype"):
        await put(cloud, volume, intervaltype="YEARLY")
    with pytest.raises(ApiError, match="id or ids must name the policies"):
        await cloud.call("deleteSnapshotPolicies")


@pytest_twisted.ensureDeferred
async def test_users_reach_only_policies_of_their_account(cloud: SmallCloud) -> None:
    volume = await root_disk(cloud)
    policy = await put(cloud, volume)
    own = await put(cloud, await root_disk(cloud, cloud.user), cloud.user)
    with pytest.raises(ApiError) as error:
        await put(cloud, volume, cloud.user)
    assert error.value.code is ErrorCode.UNAUTHORIZED
    with pytest.raises(ApiError) as error:
        await cloud.call("deleteSnapshotPolicies", cloud.user, ids=f"{own.uuid},{policy.uuid}")
    assert error.value.code is ErrorCode.UNAUTHORIZED
    found = (await cloud.call("listSnapshotPolicies", cloud.user))["snapshotpolicy"]
    assert [each["id"] for each in found] == [own.uuid]


@pytest_twisted.ensureDeferred
async def test_a_list_has_pages_counts_all_and_searches_the_names_of_volumes(cloud: SmallCloud) -> None:
    first, second = await root_disk(cloud), await root_disk(cloud)
    daily, hourly = await put(cloud, first), await put(cloud, first, intervaltype="hourly", schedule="5")
    other = await put(cloud, second)

    async def listed(**parameters: Any) -> tuple[int, list[str]]:
        answer = await cloud.call("listSnapshotPolicies", **parameters)
        return answer.get("count", 0), [each["id"] for each in answer.get("snapshotpolicy", [])]

    assert await listed(page="1", pagesize="2") == (3, [daily.uuid, hourly.uuid])
    assert await listed(page="2", pagesize="2") == (3, [other.uuid])
    assert await listed(id=hourly.uuid) == (1, [hourly.uuid])
    assert await listed(id=hourly.uuid, volumeid=second.uuid) == (0, [])
    assert await listed(keyword=second.name.lower()) == (1, [other.uuid])
    cloud.database.run_now(volumes.remove, second.id)
    assert await listed() == (2, [daily.uuid, hourly.uuid])
