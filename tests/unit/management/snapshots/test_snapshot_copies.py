# SPDX-License-Identifier: Apache-2.0
"""Copies of snapshots in other zones, and what is made of them there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from settling import settled
from small_cloud import SmallCloud
from small_cloud.agents import FakePeer
from snapshot_store import SnapshotStore
from systemvm.management.api.errors import ApiError
from systemvm.management.snapshots.errors import SnapshotStateError
from systemvm.management.snapshots.images import POLL_INTERVAL_S
from systemvm.management.state import jobs, snapshots, templates, volumes, zones
from systemvm.management.state.jobs import Job
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.snapshots import Snapshot
from systemvm.management.state.status import InstanceType, JobStatus, SnapshotState
from systemvm.management.state.volumes import Volume
from systemvm.management.state.zones import Zone
from systemvm.management.templates.store_choice import NoStoreError
from systemvm.rpc.core.errors import RpcError
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.role import Role
from systemvm.wire.snapshot import SNAPSHOT_ADOPT, SNAPSHOT_DELETE, SnapshotAdoption
from systemvm.wire.snapshot_chain import StoredChain
from systemvm.wire.storage import CopyRequest, DownloadError, DownloadState, DownloadStatus
from user_vms import deploy_running

GIB = 1 << 30


def copied(request: CopyRequest) -> DownloadStatus:
    path = f"template/tmpl/{request.account_id}/{request.template_id}/copy.qcow2"
    return DownloadStatus(request.job_id, DownloadState.DOWNLOADED, 500, 500, None, path, 500, 2 * GIB)


def refused(request: CopyRequest) -> DownloadStatus:
    error = DownloadError("store_unreachable", "no route", "mend it")
    return DownloadStatus(request.job_id, DownloadState.DOWNLOAD_ERROR, error=error)


@pytest.fixture
def zone2(cloud: SmallCloud, tmp_path: Path) -> Zone:
    """Return a second zone with a store and an SSVM."""
    zone = cloud.database.run_now(zones.put_zone, "zone2", arch="amd64")
    cloud.database.run_now(
        zones.add_store, name="far", zone_id=zone.id, url="nfs://10.22.0.2/far", nfs_version="4.2",
        host_path=str(tmp_path / "far"),
    )  # fmt: skip
    vm = cloud.add_system_vm(InstanceType.SECONDARY_STORAGE)
    cloud.update_instance(vm, zone_id=zone.id)
    cloud.agents.connect(vm.instance_name, Role.SSVM)
    peer = far(cloud)
    peer.answers[storage.TEMPLATE_COPY] = copied
    for method in (storage.TEMPLATE_DELETE, SNAPSHOT_DELETE):
        peer.answers[method] = lambda _: Acknowledgement()

    def adopt(order: SnapshotAdoption) -> Acknowledgement:
        place = order.place
        path = tmp_path / f"far/snapshots/{place.account_id}/{place.volume_id}/{place.snapshot_id}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"image")
        return Acknowledgement()

    peer.answers[SNAPSHOT_ADOPT] = adopt
    SnapshotStore.of(cloud)
    cloud.ssvm_peer.answers[storage.TEMPLATE_COPY] = copied
    cloud.ssvm_peer.answers[storage.TEMPLATE_DELETE] = lambda _: Acknowledgement()
    return zone


def far(cloud: SmallCloud) -> FakePeer:
    peer = cloud.agents.peer("s-3-VM")
    assert peer is not None
    return peer


async def taken(cloud: SmallCloud) -> tuple[Volume, Snapshot]:
    """Return a volume of 2 GiB and its second snapshot, an increment."""
    vm = await deploy_running(cloud)
    volume = cloud.database.run_now(volumes.root_of, vm.id)
    assert volume is not None
    cloud.primary.sizes[volume.uuid] = 2 * GIB
    for _ in range(2):
        job = await cloud.job("createSnapshot", volumeid=volume.uuid)
        assert job.result_code == 0, job.result
    return volume, cloud.database.run_now(snapshots.by_uuid, job.result["snapshot"]["id"])


async def done(cloud: SmallCloud, command: str, **parameters: Any) -> Any:
    return await ended(cloud, (await cloud.call(command, **parameters))["jobid"])


async def ended(cloud: SmallCloud, job_id: str) -> Job:
    """Return a job when it has ended, with dispatches in between as in the daemon."""
    while True:
        await settled(cloud.database)
        job = cloud.database.run_now(jobs.by_uuid, job_id)
        if job.status is not JobStatus.PENDING:
            return job
        await cloud.dispatch.reconcile()
        cloud.clock.advance(POLL_INTERVAL_S)


async def copy(cloud: SmallCloud, snapshot: Snapshot, zone: Zone) -> Snapshot:
    job = await done(cloud, "copySnapshot", id=snapshot.uuid, destzoneid=zone.uuid)
    assert job.result_code == 0, job.result
    found: Snapshot = cloud.database.run_now(snapshots.by_uuid, job.result["snapshot"]["id"])
    return found


def images(cloud: SmallCloud) -> list[str]:
    """Return the types of the images that are not deleted."""
    return [each.type for each in cloud.database.run_now(templates.rows.all) if each.removed is None]


async def listed_once(cloud: SmallCloud, **more: str) -> list[str]:
    answer = await cloud.call("listSnapshots", showunique="true", locationtype="secondary", **more)
    assert answer["count"] == len(answer["snapshot"])
    return [row["id"] for row in answer["snapshot"]]


@pytest_twisted.ensureDeferred
async def test_a_copy_is_listed_once_when_its_snapshot_is_deleted(cloud: SmallCloud, zone2: Zone) -> None:
    _, snapshot = await taken(cloud)
    made = await copy(cloud, snapshot, zone2)
    await cloud.job("deleteSnapshot", id=snapshot.uuid, zoneid=cloud.zone.uuid)
    listed = await listed_once(cloud)
    assert made.uuid in listed and snapshot.uuid not in listed


@pytest_twisted.ensureDeferred
async def test_a_copy_is_a_whole_snapshot_in_the_other_zone(cloud: SmallCloud, zone2: Zone) -> None:
    volume, snapshot = await taken(cloud)
    before = images(cloud)
    made = await copy(cloud, snapshot, zone2)
    [order] = cloud.ssvm_peer.params_of(storage.TEMPLATE_COPY)
    assert order.source_chain.snapshot_ids[-1] == snapshot.uuid and len(order.source_chain.snapshot_ids) == 2
    [adoption] = far(cloud).params_of(SNAPSHOT_ADOPT)
    place = adoption.place
    assert isinstance(adoption, SnapshotAdoption)
    assert (place.snapshot_id, place.volume_id, place.store.server) == (made.uuid, volume.id, "10.22.0.2")
    assert (adoption.image_account_id, adoption.image_id) == (snapshot.account_id, order.template_id)
    rows = (await cloud.call("listSnapshots", volumeid=volume.uuid))["snapshot"]
    assert [(row["zonename"], row["state"], row.get("copyof")) for row in rows] == [
        ("zone1", "BackedUp", None),
        ("zone1", "BackedUp", None),
        ("zone2", "BackedUp", snapshot.uuid),
    ]
    assert (rows[2]["revertable"], rows[2]["physicalsize"], "parentid" in rows[2]) == (False, 500, False)
    [row] = (await cloud.call("listSnapshots", zoneid=zone2.uuid))["snapshot"]
    assert row["id"] == made.uuid
    assert snapshot.uuid in await listed_once(cloud) and made.uuid not in await listed_once(cloud)
    assert (
        await listed_once(cloud, zoneid=zone2.uuid) == await listed_once(cloud, id=made.uuid) == [made.uuid]
    )
    assert images(cloud) == before, "what it came by is deleted"
    assert (await copy(cloud, snapshot, zone2)).id == made.id, "a zone has one copy"
    with pytest.raises(SnapshotStateError, match="is a copy in another zone"):
        await cloud.snapshots.revert(made.id)


@pytest_twisted.ensureDeferred
async def test_the_next_snapshot_is_no_increment_on_a_copy(cloud: SmallCloud, zone2: Zone) -> None:
    volume, snapshot = await taken(cloud)
    await copy(cloud, snapshot, zone2)
    job = await cloud.job("createSnapshot", volumeid=volume.uuid)
    assert job.result["snapshot"]["parentid"] == snapshot.uuid


@pytest_twisted.ensureDeferred
async def test_the_other_zone_makes_volumes_and_templates_of_its_copy(cloud: SmallCloud, zone2: Zone) -> None:
    volume, snapshot = await taken(cloud)
    for command, key in (("createVolume", "snapshotid"), ("extractSnapshot", "id")):
        with pytest.raises(ApiError, match="is not in zone zone2"):
            await cloud.call(command, zoneid=zone2.uuid, **{key: snapshot.uuid})
    made = await copy(cloud, snapshot, zone2)
    await cloud.job("deleteSnapshot", id=snapshot.uuid, zoneid=cloud.zone.uuid)
    [path] = await cloud.snapshot_files.chain(made)
    assert path.parts[-5:] == ("far", "snapshots", str(made.account_id), str(volume.id), made.uuid)
    job = await done(cloud, "createTemplate", name="golden", snapshotid=made.uuid, zoneid=zone2.uuid)
    assert job.result_code == 0, job.result
    assert (job.result["template"]["zoneid"], job.result["template"]["isready"]) == (zone2.uuid, True)
    [*_, order] = far(cloud).params_of(storage.TEMPLATE_COPY)
    assert order.source_chain == StoredChain(made.account_id, volume.id, [made.uuid])
    job = await done(cloud, "createVolume", name="back", snapshotid=made.uuid, zoneid=zone2.uuid)
    assert job.result_code == 0, job.result
    assert (job.result["volume"]["zoneid"], job.result["volume"]["size"]) == (zone2.uuid, 2 * GIB)


@pytest_twisted.ensureDeferred
async def test_a_snapshot_is_deleted_with_its_copies_or_in_one_zone(cloud: SmallCloud, zone2: Zone) -> None:
    _, snapshot = await taken(cloud)
    first = await copy(cloud, snapshot, zone2)
    await cloud.job("deleteSnapshot", id=snapshot.uuid, zoneid=zone2.uuid)
    assert [order.snapshot_id for order in far(cloud).params_of(SNAPSHOT_DELETE)] == [first.uuid]
    assert cloud.database.run_now(snapshots.by_id, snapshot.id).state is SnapshotState.BACKED_UP
    second = await copy(cloud, snapshot, zone2)
    job = await cloud.job("deleteSnapshot", id=snapshot.uuid)
    assert job.result_code == 0, job.result
    assert far(cloud).params_of(SNAPSHOT_DELETE)[-1].snapshot_id == second.uuid
    for each in (first, second, snapshot):
        assert cloud.database.run_now(snapshots.by_id, each.id).removed is not None


@pytest_twisted.ensureDeferred
async def test_a_zone_that_cannot_delete_its_copy_holds_up_no_other(cloud: SmallCloud, zone2: Zone) -> None:
    _, snapshot = await taken(cloud)
    made = await copy(cloud, snapshot, zone2)
    far(cloud).answers[SNAPSHOT_DELETE] = lambda _: RpcError.refused("store_hangs", "store hangs")
    job = await cloud.job("deleteSnapshot", id=snapshot.uuid)
    assert job.result["errortext"].endswith("store hangs")
    assert cloud.database.run_now(snapshots.by_id, snapshot.id).removed is not None
    assert cloud.database.run_now(snapshots.by_id, made.id).state is SnapshotState.DESTROYING


@pytest_twisted.ensureDeferred
async def test_a_snapshot_stays_whole_while_one_of_its_copies_is_read(cloud: SmallCloud, zone2: Zone) -> None:
    _, snapshot = await taken(cloud)
    made = await copy(cloud, snapshot, zone2)
    cloud.database.run_now(snapshots.update, made.id, state=SnapshotState.COPYING)
    job = await cloud.job("deleteSnapshot", id=snapshot.uuid)
    assert "is Copying" in job.result["errortext"]
    assert cloud.database.run_now(snapshots.by_id, snapshot.id).state is SnapshotState.BACKED_UP


@pytest_twisted.ensureDeferred
async def test_a_copy_that_fails_says_why_and_is_made_by_the_next_call(
    cloud: SmallCloud, zone2: Zone
) -> None:
    _, snapshot = await taken(cloud)
    before = images(cloud)
    far(cloud).answers[storage.TEMPLATE_COPY] = refused
    job = await done(cloud, "copySnapshot", id=snapshot.uuid, destzoneids=[zone2.uuid])
    assert job.result["errortext"] == "no route"
    [row] = (await cloud.call("listSnapshots", zoneid=zone2.uuid))["snapshot"]
    assert (row["state"], row["reason"], row["hint"]) == ("Error", "no route", "mend it")
    assert images(cloud) == before
    far(cloud).answers[storage.TEMPLATE_COPY] = copied
    made = await copy(cloud, snapshot, zone2)
    assert (made.uuid, made.state, made.error_text) == (row["id"], SnapshotState.BACKED_UP, None)


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_copied_is_refused_by_its_parameter(cloud: SmallCloud, zone2: Zone) -> None:
    _, snapshot = await taken(cloud)
    for parameters, message in (
        ({}, "Either destzoneid or destzoneids"),
        ({"destzoneid": cloud.zone.uuid}, "different source and destination"),
        ({"destzoneid": zone2.uuid, "sourcezoneid": zone2.uuid}, "sourcezoneid"),
    ):
        with pytest.raises(ApiError, match=message):
            await cloud.call("copySnapshot", id=snapshot.uuid, **parameters)
    with pytest.raises(ApiError, match="must not use this snapshot"):
        await cloud.call("copySnapshot", cloud.user, id=snapshot.uuid, destzoneid=zone2.uuid)
    zone3 = cloud.database.run_now(zones.put_zone, "zone3", arch="amd64")
    with pytest.raises(NoStoreError, match="zone3 has no image store for snapshots"):
        await cloud.call("copySnapshot", id=snapshot.uuid, destzoneids=[zone2.uuid, zone3.uuid])
    assert await cloud.call("listSnapshots", zoneid=zone2.uuid) == {}, "none of two is begun"
    made = await copy(cloud, snapshot, zone2)
    with pytest.raises(ApiError, match="is a copy itself"):
        await cloud.call("copySnapshot", id=made.uuid, destzoneid=zone3.uuid)


@pytest_twisted.ensureDeferred
async def test_a_job_that_a_kill_interrupts_is_repeated_to_the_same_end(
    cloud: SmallCloud, zone2: Zone
) -> None:
    _, snapshot = await taken(cloud)
    [made] = await cloud.snapshot_copies.create(snapshot.id, [zone2.id], None)
    with pytest.raises(SnapshotStateError, match="Copying"):
        await cloud.snapshots.delete(made.id)
    await cloud.snapshot_images.for_copies(snapshot.id, "request-1")  # and there the daemon was killed
    again = await copy(cloud, snapshot, zone2)
    assert (again.id, again.state) == (made.id, SnapshotState.BACKED_UP)
    assert len(cloud.ssvm_peer.params_of(storage.TEMPLATE_COPY)) == 1


@pytest_twisted.ensureDeferred
async def test_a_copy_that_a_killed_daemon_began_without_a_job_is_made(
    cloud: SmallCloud, zone2: Zone
) -> None:
    _, snapshot = await taken(cloud)
    [made] = await cloud.snapshot_copies.create(snapshot.id, [zone2.id], None)
    for _ in range(2):  # the second one has a job already
        await cloud.snapshot_copies.continue_unmade(cloud.jobs)
    [job] = cloud.database.run_now(jobs.pending)
    assert (job.command, job.instance_uuid) == ("copySnapshot", made.uuid)
    await ended(cloud, job.uuid)
    assert cloud.database.run_now(snapshots.by_id, made.id).state is SnapshotState.BACKED_UP


@pytest_twisted.ensureDeferred
async def test_a_copy_of_a_job_that_takes_its_snapshot_has_no_job_of_its_own(
    cloud: SmallCloud, zone2: Zone
) -> None:
    volume, _ = await taken(cloud)
    started = await cloud.call("createSnapshot", volumeid=volume.uuid, zoneids=[zone2.uuid])
    await settled(cloud.database)
    assert (await cloud.call("listSnapshots", zoneid=zone2.uuid))["snapshot"][0]["state"] == "Copying"
    await cloud.snapshot_copies.continue_unmade(cloud.jobs)
    assert [job.uuid for job in cloud.database.run_now(jobs.pending)] == [started["jobid"]]
    assert (await ended(cloud, started["jobid"])).result_code == 0


@pytest_twisted.ensureDeferred
async def test_a_snapshot_is_copied_as_soon_as_it_is_taken(cloud: SmallCloud, zone2: Zone) -> None:
    volume, _ = await taken(cloud)
    wanted = {"volumeid": volume.uuid, "zoneids": [zone2.uuid, cloud.zone.uuid]}
    job = await done(cloud, "createSnapshot", **wanted)
    assert job.result_code == 0, job.result
    snapshot = job.result["snapshot"]
    [copied_row] = (await cloud.call("listSnapshots", zoneid=zone2.uuid))["snapshot"]
    assert (snapshot["zonename"], copied_row["copyof"]) == ("zone1", snapshot["id"])
    far(cloud).answers[storage.TEMPLATE_COPY] = refused
    job = await done(cloud, "createSnapshot", name="second", **wanted)
    assert job.result["errortext"] == "second is BackedUp, but is not in all zones: no route"
    rows = (await cloud.call("listSnapshots", name="second"))["snapshot"]
    assert [(row["zonename"], row["state"]) for row in rows] == [("zone1", "BackedUp"), ("zone2", "Error")]
    with pytest.raises(NotFoundError):
        await cloud.call("createSnapshot", volumeid=volume.uuid, zoneids=[volume.uuid])
