# SPDX-License-Identifier: Apache-2.0
"""Snapshots that are deleted: in any order, and where a store or an SSVM is away."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import attrs
import pytest_twisted
from twisted.internet.defer import Deferred

from present import present
from settling import settled
from small_cloud import SmallCloud
from snapshot_store import SnapshotStore
from systemvm.management.api.errors import ErrorCode
from systemvm.management.snapshots.files import SSVM_WAIT_S
from systemvm.management.state import snapshots, store_contents, volumes, zones
from systemvm.management.state.status import SnapshotState
from systemvm.rpc.core.errors import RpcError
from systemvm.wire.snapshot import SNAPSHOT_DELETE, SNAPSHOT_PUBLISH
from unit.management.snapshots.snapshot_calls import ended, refusal, row, running, take
from user_vms import deploy_running


@pytest_twisted.ensureDeferred
async def test_chains_of_five_are_deleted_in_any_order(cloud: SmallCloud) -> None:
    store = SnapshotStore.of(cloud)
    vm, volume = await running(cloud)
    order = random.Random(12)
    for _ in range(10):
        cloud.hypervisor.disks(vm.instance_name).recording.clear()
        chain = [await take(cloud, volume) for _ in range(5)]
        left = list(chain)
        for gone in order.sample(chain, 5):
            job = await cloud.job("deleteSnapshot", id=gone.uuid)
            assert job.result_code == 0, job.result
            left.remove(gone)
            needed = {each.uuid for kept in left for each in chain[: chain.index(kept) + 1]}
            assert store.files().keys() == needed, "a file is kept as long as another needs it, and no longer"
            listed = await cloud.call("listSnapshots", volumeid=volume.uuid)
            assert [each["id"] for each in listed.get("snapshot", [])] == [each.uuid for each in left]
    assert list(store.root.glob("snapshots/*/*")) == []


@pytest_twisted.ensureDeferred
async def test_what_a_failed_snapshot_has_on_its_store_is_deleted_before_itself(cloud: SmallCloud) -> None:
    store = SnapshotStore.of(cloud)
    _, volume = await running(cloud)
    publish = cloud.ssvm_peer.answers[SNAPSHOT_PUBLISH]

    def publish_and_fail(end: Any) -> Any:
        publish(end)
        return RpcError.refused("store_hangs", "store hangs")

    cloud.ssvm_peer.answers[SNAPSHOT_PUBLISH] = publish_and_fail
    started = await cloud.call("createSnapshot", volumeid=volume.uuid)
    assert (await cloud.jobs.wait(started["jobid"])).result_code != 0
    assert len(store.files()) == 1
    for _ in range(2):
        await cloud.snapshots.finish_deletions()
        assert store.files() == {}
    assert len(cloud.ssvm_peer.params_of(SNAPSHOT_DELETE)) == 2, "before it was sent, and afterwards"
    [row] = (await cloud.call("listSnapshots"))["snapshot"]
    assert (row["state"], row["reason"]) == (
        "Error",
        f"secondary storage did not take snapshot {row['name']}: store hangs",
    )


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_deleted_holds_up_no_other_snapshot_of_its_volume(cloud: SmallCloud) -> None:
    store = SnapshotStore.of(cloud)
    _, volume = await running(cloud)
    first = await take(cloud, volume)
    cloud.hypervisor.disks_of.clear()  # the next one is whole
    second = await take(cloud, volume)
    publish, delete = (cloud.ssvm_peer.answers[each] for each in (SNAPSHOT_PUBLISH, SNAPSHOT_DELETE))
    cloud.ssvm_peer.answers[SNAPSHOT_PUBLISH] = lambda _: RpcError.refused("store_full", "store is full")
    job = await cloud.job("createSnapshot", volumeid=volume.uuid)
    assert job.result_code != 0
    cloud.ssvm_peer.answers[SNAPSHOT_PUBLISH] = publish
    stays = {present(job.instance_uuid), second.uuid}

    def refuse(place: Any) -> Any:
        return RpcError.refused("x", "file stays") if place.snapshot_id in stays else delete(place)

    cloud.ssvm_peer.answers[SNAPSHOT_DELETE] = refuse
    assert (await refusal(cloud, "deleteSnapshot", id=second.uuid))[0] == ErrorCode.RESOURCE_UNAVAILABLE
    job = await cloud.job("deleteSnapshot", id=first.uuid)
    assert job.result_code == 0, job.result
    assert first.uuid not in store.files()
    assert second.uuid in store.files()


@pytest_twisted.ensureDeferred
async def test_without_an_ssvm_deletions_of_a_volume_wait_once(cloud: SmallCloud) -> None:
    SnapshotStore.of(cloud)
    _, volume = await running(cloud)
    *earlier, last = [await take(cloud, volume) for _ in range(3)]
    for each in earlier:
        cloud.database.run_now(snapshots.update, each.id, state=SnapshotState.DESTROYING)
    cloud.agents.disconnect(cloud.ssvm.instance_name)
    begin = cloud.clock.seconds()
    started = await cloud.call("deleteSnapshot", id=last.uuid)
    assert (await ended(cloud, started["jobid"])).result_code == ErrorCode.RESOURCE_UNAVAILABLE
    assert cloud.clock.seconds() - begin < 2 * SSVM_WAIT_S


@pytest_twisted.ensureDeferred
async def test_nothing_is_deleted_on_a_store_that_was_deleted(cloud: SmallCloud) -> None:
    SnapshotStore.of(cloud)
    _, volume = await running(cloud)
    left = []
    for _ in range(4):  # each is whole
        left.append(await take(cloud, volume))
        cloud.hypervisor.disks_of.clear()
    before, later = left[:2], left[2:]
    cloud.ssvm_peer.answers[SNAPSHOT_DELETE] = lambda _: RpcError.refused("store_hangs", "store hangs")
    states = (SnapshotState.ERROR, SnapshotState.DESTROYING)
    for snapshot, state in zip(before, states, strict=True):
        cloud.database.run_now(snapshots.update, snapshot.id, state=state)
    for snapshot in later:  # these are being taken while the store is deleted
        cloud.database.run_now(snapshots.update, snapshot.id, state=SnapshotState.BACKING_UP)
    cloud.database.run_now(zones.store_rows.update, cloud.store.id, origin="api")
    cloud.database.run_now(store_contents.forget_copies, cloud.store.id)
    await cloud.image_stores.delete(cloud.store.id)
    assert cloud.database.run_now(snapshots.to_delete) == []
    for snapshot, state in zip(later, states, strict=True):
        cloud.database.run_now(snapshots.update, snapshot.id, state=state)
    calls = len(cloud.ssvm_peer.params_of(SNAPSHOT_DELETE))
    await cloud.snapshots.finish_deletions()
    assert len(cloud.ssvm_peer.params_of(SNAPSHOT_DELETE)) == calls
    assert cloud.database.run_now(snapshots.to_delete) == []
    rows = [row(cloud, snapshot) for snapshot in left]
    assert [(each.state, each.removed is None) for each in rows] == [
        (SnapshotState.ERROR, True),
        (SnapshotState.DESTROYING, False),
    ] * 2
    job = await cloud.job("deleteSnapshot", id=left[0].uuid)
    assert job.result_code == 0, job.result
    assert row(cloud, left[0]).removed is not None


@pytest_twisted.ensureDeferred
async def test_deletions_that_must_wait_hold_up_nothing_when_an_ssvm_connects(cloud: SmallCloud) -> None:
    SnapshotStore.of(cloud)
    _, volume = await running(cloud)
    snapshot = await take(cloud, volume)
    cloud.database.run_now(snapshots.update, snapshot.id, state=SnapshotState.DESTROYING)
    cloud.agents.disconnect(cloud.ssvm.instance_name)
    reached: Deferred[None] = Deferred()

    async def reach() -> None:
        reached.callback(None)

    leftovers: Any = SimpleNamespace(delete=reach)
    services = attrs.evolve(cloud.services.disks, leftovers=leftovers)
    begun = Deferred.fromCoroutine(services.agent_up())
    await settled(cloud.database)
    assert reached.called
    assert row(cloud, snapshot).removed is None
    cloud.clock.advance(SSVM_WAIT_S)
    await settled(cloud.database)
    await begun


@pytest_twisted.ensureDeferred
async def test_a_deletion_that_no_ssvm_can_do_is_done_later(cloud: SmallCloud) -> None:
    store = SnapshotStore.of(cloud)
    _, volume = await running(cloud)
    snapshot = await take(cloud, volume)
    delete = cloud.ssvm_peer.answers[SNAPSHOT_DELETE]
    cloud.ssvm_peer.answers[SNAPSHOT_DELETE] = lambda _: RpcError.refused("store_hangs", "store hangs")
    code, _, _ = await refusal(cloud, "deleteSnapshot", id=snapshot.uuid)
    assert code == ErrorCode.RESOURCE_UNAVAILABLE
    assert await cloud.call("listSnapshots") == {}
    cloud.ssvm_peer.answers[SNAPSHOT_DELETE] = delete
    await cloud.snapshots.finish_deletions()
    assert store.files() == {}
    assert row(cloud, snapshot).removed is not None


@pytest_twisted.ensureDeferred
async def test_snapshots_outlive_their_volume_and_go_with_their_account(cloud: SmallCloud) -> None:
    store = SnapshotStore.of(cloud)
    vm = await deploy_running(cloud, cloud.user)
    volume = present(cloud.database.run_now(volumes.root_of, vm.id))
    snapshot = await take(cloud, volume)
    await cloud.machines.destroy(vm.id, expunge=True)
    [listed] = (await cloud.call("listSnapshots", cloud.user))["snapshot"]
    assert (listed["volumestate"], listed["revertable"]) == ("Destroyed", False)
    code, text, _ = await refusal(cloud, "revertSnapshot", id=snapshot.uuid)
    assert (code, text) == (ErrorCode.PARAMETER, f"id: volume {volume.name} was deleted")
    job = await cloud.job("createVolume", cloud.user, snapshotid=snapshot.uuid)
    assert job.result_code == 0, job.result
    await cloud.account_service.delete_account(cloud.user.account.id)
    assert store.files() == {}
    assert row(cloud, snapshot).removed is not None
