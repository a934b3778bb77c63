# SPDX-License-Identifier: Apache-2.0
"""Snapshots of volumes as the API takes, lists, restores, reverts and deletes them."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, maybeDeferred

from present import present
from settling import settled
from small_cloud import SmallCloud
from snapshot_store import SnapshotStore
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.api.failures import as_api_error
from systemvm.management.configurations.snapshots import DELTA_MAX
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.hypervisors.guest_agent_session import GuestAgentSilentError
from systemvm.management.image_stores.service import StoreInUseError
from systemvm.management.snapshots import files
from systemvm.management.snapshots.files import SSVM_POLL_S, SSVM_WAIT_S
from systemvm.management.snapshots.transitions import NewSnapshot
from systemvm.management.state import jobs, snapshots, store_contents, volumes, zones
from systemvm.management.state.instances import Instance
from systemvm.management.state.jobs import Job
from systemvm.management.state.snapshots import Snapshot
from systemvm.management.state.status import JobStatus, SnapshotState
from systemvm.management.state.volumes import Volume
from systemvm.management.templates.store_choice import NoStoreError
from systemvm.management.volume_services import VolumeServices
from systemvm.rpc.core.errors import NOT_CONNECTED, RpcError
from systemvm.service.errors import SystemVmError
from systemvm.wire.snapshot import MAX_PIECE_BYTES, SNAPSHOT_DELETE, SNAPSHOT_PUBLISH, SNAPSHOT_WRITE
from user_vms import deploy_running

GIB = 1 << 30


async def running(cloud: SmallCloud) -> tuple[Instance, Volume]:
    """Return a VM that runs, and its root disk of 2 GiB."""
    vm = await deploy_running(cloud)
    volume = present(cloud.database.run_now(volumes.root_of, vm.id))
    cloud.primary.sizes[volume.uuid] = 2 * GIB
    return vm, volume


async def take(cloud: SmallCloud, volume: Volume, **more: Any) -> Snapshot:
    job = await cloud.job("createSnapshot", volumeid=volume.uuid, **more)
    assert job.result_code == 0, job.result
    return cloud.database.run_now(snapshots.by_uuid, job.result["snapshot"]["id"])


async def refusal(cloud: SmallCloud, command: str, **parameters: Any) -> tuple[int, str, str]:
    """Return code, text and hint of a call that is refused, at once or by its job."""
    try:
        job = await cloud.job(command, **parameters)
    except SystemVmError as error:
        refused = as_api_error(error, "request-1")
        return refused.code, refused.message, refused.hint
    assert job.result_code, job.result
    return job.result_code, job.result["errortext"], job.result["hint"]


async def ended(cloud: SmallCloud, job_uuid: str) -> Job:
    """Let time pass until a job has ended."""
    while True:
        await settled(cloud.database)
        job = cloud.database.run_now(jobs.by_uuid, job_uuid)
        if job.status is not JobStatus.PENDING:
            return job
        cloud.clock.advance(SSVM_POLL_S)


def row(cloud: SmallCloud, snapshot: Snapshot) -> Snapshot:
    return cloud.database.run_now(snapshots.by_id, snapshot.id)


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
async def test_a_store_that_hangs_makes_snapshots_whole_and_holds_one_thread(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    SnapshotStore.of(cloud)
    _, volume = await running(cloud)
    await take(cloud, volume)
    hanging: list[Deferred[None]] = []

    def in_thread(function: Any, *arguments: Any) -> Deferred[Any]:
        if function is not files._check_files:
            return maybeDeferred(function, *arguments)
        hanging.append(Deferred())
        return hanging[-1]

    monkeypatch.setattr(cloud.snapshot_files, "_in_thread", in_thread)
    for _ in range(2):
        started = await cloud.call("createSnapshot", volumeid=volume.uuid)
        job = await ended(cloud, started["jobid"])
        assert job.result_code == 0, job.result
        last = cloud.database.run_now(snapshots.by_uuid, present(job.result)["snapshot"]["id"])
        assert last.parent_id is None
    assert len(hanging) == 1
    started = await cloud.call("createVolume", snapshotid=last.uuid)
    failed = await ended(cloud, started["jobid"])
    assert "its image store does not answer on this host" in present(failed.result)["errortext"]
    monkeypatch.setattr(cloud.snapshot_files, "_in_thread", maybeDeferred)
    hanging[0].callback(None)
    assert (await take(cloud, volume)).parent_id == last.id


@pytest_twisted.ensureDeferred
async def test_a_snapshot_that_was_stored_before_a_kill_leaves_nothing_on_primary_storage(
    cloud: SmallCloud,
) -> None:
    SnapshotStore.of(cloud)
    _, volume = await running(cloud)
    snapshot = await take(cloud, volume)
    left = cloud.primary.snapshot_path(snapshot.uuid)
    left.touch()  # the daemon was killed before it deleted it
    await cloud.snapshots.take(snapshot.id)
    assert not left.exists()


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
async def test_a_snapshot_whose_vm_dies_in_the_middle_fails_clearly(cloud: SmallCloud) -> None:
    store = SnapshotStore.of(cloud)
    _vm, volume = await running(cloud)
    first = await take(cloud, volume)
    cloud.hypervisor.fails_with = HypervisorError("QEMU ended after transaction", "start the VM")
    code, _, _ = await refusal(cloud, "createSnapshot", volumeid=volume.uuid)
    assert code == ErrorCode.RESOURCE_UNAVAILABLE
    cloud.hypervisor.fails_with = None
    [_, failed] = (await cloud.call("listSnapshots"))["snapshot"]
    assert (failed["state"], failed["reason"], failed["hint"]) == (
        "Error", "QEMU ended after transaction", "start the VM",
    )  # fmt: skip
    assert list(cloud.primary.directory.glob("*.snapshot")) == []
    assert (await take(cloud, volume)).parent_id == first.id
    code, _text, hint = await refusal(cloud, "createVolume", snapshotid=failed["id"])
    assert (code, hint) == (ErrorCode.PARAMETER, "take another one")
    assert (await cloud.job("deleteSnapshot", id=failed["id"])).result_code == 0
    assert len(store.files()) == 2


@pytest_twisted.ensureDeferred
async def test_an_upload_continues_when_an_ssvm_comes_back(cloud: SmallCloud) -> None:
    store = SnapshotStore.of(cloud)
    _, volume = await running(cloud)
    write = cloud.ssvm_peer.answers[SNAPSHOT_WRITE]
    cloud.ssvm_peer.answers[SNAPSHOT_WRITE] = lambda _: RpcError(NOT_CONNECTED, "gone")
    started = await cloud.call("createSnapshot", volumeid=volume.uuid)
    await settled(cloud.database)
    assert cloud.ssvm_peer.params_of(SNAPSHOT_WRITE), "it was tried"
    cloud.ssvm_peer.answers[SNAPSHOT_WRITE] = write
    job = await ended(cloud, started["jobid"])
    assert job.result_code == 0, job.result
    [snapshot] = (await cloud.call("listSnapshots"))["snapshot"]
    assert store.files()[snapshot["id"]].stat().st_size == snapshot["physicalsize"]


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
async def test_without_an_ssvm_a_snapshot_fails_after_a_bounded_wait(cloud: SmallCloud) -> None:
    _, volume = await running(cloud)
    cloud.agents.disconnect(cloud.ssvm.instance_name)
    started = await cloud.call("createSnapshot", volumeid=volume.uuid)
    before = cloud.clock.seconds()
    job = await ended(cloud, started["jobid"])
    assert job.result_code == ErrorCode.RESOURCE_UNAVAILABLE
    assert "no secondary storage VM" in present(job.result)["errortext"]
    assert cloud.clock.seconds() - before >= SSVM_WAIT_S


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
    unused: Any = None
    services = VolumeServices(
        pools=cloud.storage_pools,
        maintenance=unused,
        volumes=cloud.volumes,
        migration=unused,
        uploads=cloud.volume_uploads,
        leftovers=leftovers,
        snapshots=cloud.snapshots,
        snapshot_policies=cloud.snapshot_policies,
        snapshot_images=cloud.snapshot_images,
        snapshot_copies=cloud.snapshot_copies,
    )
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
async def test_no_kill_parts_a_snapshot_from_its_job_and_its_tags(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    SnapshotStore.of(cloud)
    _, volume = await running(cloud)
    wanted = {"volumeid": volume.uuid, "tags[0].key": "for", "tags[0].value": "audit"}

    def end(*_: Any, **__: Any) -> None:
        raise OSError

    with monkeypatch.context() as patched:
        patched.setattr(jobs, "create", end)
        with pytest.raises(OSError):
            await cloud.call("createSnapshot", **wanted)
    assert await cloud.call("listSnapshots") == {}
    assert await cloud.call("listTags") == {}
    job = await cloud.job("createSnapshot", **wanted)
    assert job.result["snapshot"]["tags"][0]["value"] == "audit"


@pytest_twisted.ensureDeferred
async def test_what_a_killed_daemon_began_is_completed(cloud: SmallCloud) -> None:
    store = SnapshotStore.of(cloud)
    _, volume = await running(cloud)
    await take(cloud, volume)
    for state in (SnapshotState.ALLOCATED, SnapshotState.CREATING, SnapshotState.BACKING_UP):
        left = await cloud.snapshots.create(NewSnapshot(volume.id, None, None))
        cloud.database.run_now(snapshots.update, left.id, state=state)
        if state is SnapshotState.BACKING_UP:
            cloud.primary.snapshot_path(left.uuid).write_bytes(b"complete on primary storage")
        taken = await cloud.snapshots.take(left.id)
        assert taken.state is SnapshotState.BACKED_UP
        assert store.files()[left.uuid].exists()
    assert store.files()[left.uuid].read_bytes() == b"complete on primary storage"
    again = await cloud.snapshots.take(left.id)
    assert again == taken


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
