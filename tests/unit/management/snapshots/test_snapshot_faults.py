# SPDX-License-Identifier: Apache-2.0
"""Snapshots beside faults: a VM that dies, a store that hangs, no SSVM, a daemon that is killed."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, maybeDeferred

from present import present
from settling import settled
from small_cloud import SmallCloud
from snapshot_store import SnapshotStore
from systemvm.management.api.errors import ErrorCode
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.snapshots import files
from systemvm.management.snapshots.files import SSVM_WAIT_S
from systemvm.management.snapshots.transitions import NewSnapshot
from systemvm.management.state import jobs, snapshots
from systemvm.management.state.status import SnapshotState
from systemvm.rpc.core.errors import NOT_CONNECTED, RpcError
from systemvm.wire.snapshot import SNAPSHOT_WRITE
from unit.management.snapshots.snapshot_calls import ended, refusal, running, take


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
