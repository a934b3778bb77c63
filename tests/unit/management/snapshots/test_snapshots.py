# SPDX-License-Identifier: Apache-2.0
"""Snapshots of volumes as the API takes, lists, restores and reverts them."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from present import present
from small_cloud import SmallCloud
from snapshot_store import SnapshotStore
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.configurations.snapshots import DELTA_MAX
from systemvm.management.hypervisors.guest_agent_session import GuestAgentSilentError
from systemvm.management.image_stores.service import StoreInUseError
from systemvm.management.snapshots.transitions import NewSnapshot
from systemvm.management.state import snapshots, store_contents, zones
from systemvm.management.state.status import SnapshotState
from systemvm.management.templates.store_choice import NoStoreError
from systemvm.wire.snapshot import MAX_PIECE_BYTES, SNAPSHOT_WRITE
from unit.management.snapshots.snapshot_calls import GIB, refusal, running, take


@pytest_twisted.ensureDeferred
async def test_the_first_is_whole_and_the_next_an_increment(cloud: SmallCloud) -> None:
    store = SnapshotStore.of(cloud)
    vm, volume = await running(cloud)
    first = await take(cloud, volume, name="before the update")
    second = await take(cloud, volume)
    assert (first.state, first.parent_id, first.size_bytes) == (SnapshotState.BACKED_UP, None, 2 * GIB)
    assert (second.state, second.parent_id) == (SnapshotState.BACKED_UP, first.id)
    assert second.physical_size_bytes == 36 * 30_000 > MAX_PIECE_BYTES, "it goes in pieces"
    files = store.files()
    assert files.keys() == {first.uuid, second.uuid}
    for snapshot in (first, second):
        path = files[snapshot.uuid]
        assert path.read_bytes() == snapshot.uuid.encode() * 30_000
        assert path.stat().st_mode & 0o777 == 0o444
        assert path.parent == store.root / "snapshots" / str(snapshot.account_id) / str(volume.id)
    assert list(cloud.primary.directory.glob("*.snapshot")) == [], "primary storage keeps none"
    disks = cloud.hypervisor.disks(vm.instance_name)
    assert [backup.since for backup in disks.backups] == [None, first.uuid]
    assert disks.kept == {"disk0": second.uuid}
    listed = (await cloud.call("listSnapshots", volumeid=volume.uuid))["snapshot"]
    assert [(each["name"], each.get("parentid")) for each in listed] == [
        ("before the update", None),
        (second.name, first.uuid),
    ]
    assert listed[1]["physicalsize"] == second.physical_size_bytes
    assert second.name.startswith(f"{volume.name}_20")


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_an_increment_is_whole(cloud: SmallCloud) -> None:
    SnapshotStore.of(cloud)
    vm, volume = await running(cloud)
    await take(cloud, volume)
    cloud.hypervisor.disks(vm.instance_name).recording.clear()  # the machine was killed
    assert (await take(cloud, volume)).parent_id is None
    cloud.primary.sizes[volume.uuid] = 3 * GIB
    assert (await take(cloud, volume)).parent_id is None
    chain = [await take(cloud, volume) for _ in range(16)]
    assert [each.parent_id is None for each in chain] == [False] * 15 + [True]
    await cloud.call("updateConfiguration", name=DELTA_MAX.name, value="3", zoneid=cloud.zone.uuid)
    chain = [await take(cloud, volume) for _ in range(5)]
    assert [each.parent_id is None for each in chain] == [False, False, True, False, False]
    await cloud.call("updateConfiguration", name=DELTA_MAX.name, value="1")
    await cloud.call("resetConfiguration", name=DELTA_MAX.name, zoneid=cloud.zone.uuid)
    chain = [await take(cloud, volume) for _ in range(2)]
    assert [each.parent_id is None for each in chain] == [True, True], "each is whole"
    with pytest.raises(ApiError, match="from 1 to 256 snapshots"):
        await cloud.call("updateConfiguration", name=DELTA_MAX.name, value="0")


@pytest_twisted.ensureDeferred
async def test_a_snapshot_is_whole_when_somebody_has_removed_what_it_would_be_an_increment_on(
    cloud: SmallCloud,
) -> None:
    store = SnapshotStore.of(cloud)
    _, volume = await running(cloud)
    chain = [await take(cloud, volume) for _ in range(3)]
    store.files()[chain[0].uuid].unlink()
    code, text, hint = await refusal(cloud, "createVolume", snapshotid=chain[2].uuid)
    assert code == ErrorCode.RESOURCE_UNAVAILABLE
    assert f"{chain[0].uuid} does not exist" in text and "restore the file" in hint
    fourth, fifth = await take(cloud, volume), await take(cloud, volume)
    assert (fourth.parent_id, fifth.parent_id) == (None, fourth.id)
    job = await cloud.job("createVolume", snapshotid=fifth.uuid)
    assert job.result_code == 0, job.result
    for gone in chain:
        assert (await cloud.job("deleteSnapshot", id=gone.uuid)).result_code == 0
    assert store.files().keys() == {fourth.uuid, fifth.uuid}


@pytest_twisted.ensureDeferred
async def test_a_stopped_vms_disk_is_copied_whole_and_the_next_is_an_increment(cloud: SmallCloud) -> None:
    store = SnapshotStore.of(cloud)
    vm, volume = await running(cloud)
    await cloud.machines.stop(vm.id, forced=True)
    first = await take(cloud, volume)
    assert store.files()[first.uuid].read_bytes() == b"whole"
    assert cloud.primary.bitmaps[volume.uuid] == f"snapshot-{first.uuid}"
    await cloud.machines.start(vm.id)
    cloud.hypervisor.disks(vm.instance_name).recording["disk0"] = first.uuid
    assert (await take(cloud, volume)).parent_id == first.id


@pytest_twisted.ensureDeferred
async def test_a_volume_is_made_from_a_snapshot(cloud: SmallCloud) -> None:
    store = SnapshotStore.of(cloud)
    _, volume = await running(cloud)
    first, second = await take(cloud, volume), await take(cloud, volume)
    job = await cloud.job("createVolume", snapshotid=second.uuid, name="restored")
    assert job.result_code == 0, job.result
    answer = job.result["volume"]
    assert (answer["size"], answer["state"]) == (2 * GIB, "Ready")
    files = store.files()
    assert cloud.primary.restored[answer["id"]] == [files[first.uuid], files[second.uuid]]
    larger = await cloud.job("createVolume", snapshotid=first.uuid, size=5)
    assert larger.result["volume"]["size"] == 5 * GIB
    code, text, hint = await refusal(cloud, "createVolume", snapshotid=first.uuid, size=1)
    assert (code, hint) == (ErrorCode.PARAMETER, "omit it, or choose at least 2")
    assert text.startswith("size: 1 GiB is less than the 2 GiB of")
    files[first.uuid].unlink()
    code, text, _ = await refusal(cloud, "createVolume", snapshotid=second.uuid)
    assert code == ErrorCode.RESOURCE_UNAVAILABLE
    assert "does not exist" in text
    assert len((await cloud.call("listVolumes"))["volume"]) == 3


@pytest_twisted.ensureDeferred
async def test_a_volume_is_reverted_while_its_vm_is_stopped(cloud: SmallCloud) -> None:
    SnapshotStore.of(cloud)
    vm, volume = await running(cloud)
    first = await take(cloud, volume)
    code, text, hint = await refusal(cloud, "revertSnapshot", id=first.uuid)
    assert (code, hint) == (ErrorCode.PARAMETER, "stop it first with stopVirtualMachine")
    assert text.endswith("is Running")
    await cloud.machines.stop(vm.id, forced=True)
    cloud.primary.sizes[volume.uuid] = 4 * GIB
    job = await cloud.job("revertSnapshot", id=first.uuid)
    assert job.result_code == 0, job.result
    assert len(cloud.primary.restored[volume.uuid]) == 1
    assert cloud.primary.sizes[volume.uuid] == 2 * GIB


@pytest_twisted.ensureDeferred
async def test_a_volume_is_changed_while_its_snapshot_is_copied(cloud: SmallCloud) -> None:
    store = SnapshotStore.of(cloud)
    _, volume = await running(cloud)
    earlier = await take(cloud, volume)
    write = cloud.ssvm_peer.answers[SNAPSHOT_WRITE]
    may_continue: Deferred[None] = Deferred()

    async def write_later(piece: Any) -> Any:
        await may_continue
        return write(piece)

    waiting: Deferred[None] = Deferred()

    def begin(piece: Any) -> Any:
        if not waiting.called:
            waiting.callback(None)
        return write_later(piece)

    cloud.ssvm_peer.answers[SNAPSHOT_WRITE] = begin
    first = await cloud.call("createSnapshot", volumeid=volume.uuid)
    await waiting
    second = await cloud.call("createSnapshot", volumeid=volume.uuid)
    job = await cloud.job("resizeVolume", id=volume.uuid, size=2)
    assert job.result_code == 0, job.result
    assert (await cloud.job("deleteSnapshot", id=earlier.uuid)).result_code == 0
    states = [each["state"] for each in (await cloud.call("listSnapshots"))["snapshot"]]
    assert states == ["BackingUp", "Allocated"], "the next one waits for what it is an increment on"
    assert earlier.uuid in store.files(), "the one that is being copied needs it"
    may_continue.callback(None)
    ids = [(await cloud.jobs.wait(each["jobid"])).instance_uuid for each in (first, second)]
    chain = [cloud.database.run_now(snapshots.by_uuid, present(each)) for each in ids]
    assert [each.parent_id for each in chain] == [earlier.id, chain[0].id]
    assert [each.state for each in chain] == [SnapshotState.BACKED_UP] * 2


@pytest_twisted.ensureDeferred
async def test_refusals_name_what_is_wrong_and_what_to_do(cloud: SmallCloud) -> None:
    SnapshotStore.of(cloud)
    _, volume = await running(cloud)
    snapshot = await take(cloud, volume)
    for command in ("deleteSnapshot", "revertSnapshot"):
        with pytest.raises(ApiError) as error:
            await cloud.call(command, cloud.user, id=snapshot.uuid)
        assert error.value.code is ErrorCode.UNAUTHORIZED
    assert await cloud.call("listSnapshots", cloud.user) == {}
    cloud.database.run_now(zones.store_rows.update, cloud.store.id, origin="api")
    cloud.database.run_now(store_contents.forget_copies, cloud.store.id)
    with pytest.raises(StoreInUseError, match="1 snapshots of volumes"):
        await cloud.image_stores.delete(cloud.store.id)
    pending = await cloud.snapshots.create(NewSnapshot(volume.id, None, None))
    code, _text, hint = await refusal(cloud, "deleteSnapshot", id=pending.uuid)
    assert (code, hint) == (ErrorCode.PARAMETER, "wait until it is BackedUp")
    cloud.database.run_now(zones.store_rows.update, cloud.store.id, host_path=None)
    with pytest.raises(NoStoreError) as no_store:
        await cloud.call("createSnapshot", volumeid=volume.uuid)
    assert no_store.value.hint.startswith("add an NFS store with host_path")


@pytest_twisted.ensureDeferred
async def test_the_guest_agent_is_asked_only_for_a_quiesced_snapshot_of_a_vm_that_runs(
    cloud: SmallCloud,
) -> None:
    SnapshotStore.of(cloud)
    vm, volume = await running(cloud)
    disks = cloud.hypervisor.disks(vm.instance_name)
    await take(cloud, volume)
    await take(cloud, volume, quiescevm="true")
    assert [backup.quiesce for backup in disks.backups] == [False, True]
    cloud.hypervisor.fails_with = GuestAgentSilentError("guest agent did not answer", "check that it runs")
    refused = await refusal(cloud, "createSnapshot", volumeid=volume.uuid, quiescevm="true")
    assert refused[1:] == ("guest agent did not answer", "check that it runs")
    cloud.hypervisor.fails_with = None
    await cloud.machines.stop(vm.id, forced=True)
    assert (await take(cloud, volume, quiescevm="true")).state is SnapshotState.BACKED_UP
