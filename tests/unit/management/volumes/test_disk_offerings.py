# SPDX-License-Identifier: Apache-2.0
"""Disk offerings, and the volumes that are created by them."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from present import present
from small_cloud import SmallCloud
from snapshot_store import SnapshotStore
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.state import offerings, volumes
from systemvm.management.zone_model.refusals import ModelError
from user_vms import deploy_running

GIB = 1 << 30


async def create(cloud: SmallCloud, **parameters: Any) -> dict[str, Any]:
    answer: dict[str, Any] = (await cloud.call("createDiskOffering", **parameters))["diskoffering"]
    return answer


@pytest_twisted.ensureDeferred
async def test_a_volume_has_the_size_of_its_offering(cloud: SmallCloud) -> None:
    offering = await create(cloud, name="d20", disksize=20)
    assert (offering["disksize"], offering["iscustomized"], offering["displaytext"]) == (
        20, False, "d20: 20 GiB",
    )  # fmt: skip
    job = await cloud.job("createVolume", cloud.user, name="data", diskofferingid=offering["id"])
    volume = job.result["volume"]
    assert (volume["size"], volume["diskofferingid"]) == (20 * GIB, offering["id"])
    await cloud.call("updateDiskOffering", id=offering["id"], name="small", displaytext="for logs")
    [listed] = (await cloud.call("listVolumes", cloud.user))["volume"]
    assert (listed["diskofferingname"], listed["diskofferingdisplaytext"]) == ("small", "for logs")
    await cloud.call("deleteDiskOffering", id=offering["id"])
    [first] = (await cloud.call("listDiskOfferings", cloud.user))["diskoffering"]
    assert (first["name"], first["iscustomized"]) == ("Custom", True)
    [listed] = (await cloud.call("listVolumes", cloud.user))["volume"]
    assert (listed["size"], listed["diskofferingname"]) == (20 * GIB, "small"), "it keeps what it was"
    with pytest.raises(ApiError, match="diskofferingid: there is no disk offering"):
        await cloud.call("createVolume", diskofferingid=offering["id"])


@pytest_twisted.ensureDeferred
async def test_a_volume_is_resized_by_an_offering(cloud: SmallCloud) -> None:
    small, large = await create(cloud, name="d1", disksize=1), await create(cloud, name="d5", disksize=5)
    volume = (await cloud.job("createVolume", diskofferingid=small["id"])).result["volume"]
    cloud.primary.sizes[volume["id"]] = 1 * GIB
    resized = (await cloud.job("resizeVolume", id=volume["id"], diskofferingid=large["id"])).result["volume"]
    assert (resized["size"], resized["diskofferingid"]) == (5 * GIB, large["id"])
    resized = (await cloud.job("resizeVolume", id=volume["id"], size=6)).result["volume"]
    assert (resized["size"], resized["diskofferingid"]) == (6 * GIB, large["id"])
    with pytest.raises(ApiError, match="size cannot be chosen"):
        await cloud.call("resizeVolume", id=volume["id"], size=7, diskofferingid=large["id"])
    with pytest.raises(ApiError, match="size is missing"):
        await cloud.call("resizeVolume", id=volume["id"])


@pytest_twisted.ensureDeferred
async def test_the_first_offering_stays_deleted(cloud: SmallCloud) -> None:
    [first] = (await cloud.call("listDiskOfferings", name="custom"))["diskoffering"]
    await cloud.call("deleteDiskOffering", id=first["id"])
    cloud.database.run_now(offerings.add_first)
    assert await cloud.call("listDiskOfferings") == {}


@pytest_twisted.ensureDeferred
async def test_users_of_a_customized_offering_choose_the_size(cloud: SmallCloud) -> None:
    offering = await create(cloud, name="own", customized="true")
    assert (offering["disksize"], offering["iscustomized"]) == (0, True)
    job = await cloud.job("createVolume", diskofferingid=offering["id"], size=3)
    assert job.result["volume"]["size"] == 3 * GIB
    with pytest.raises(ApiError, match="size is missing") as error:
        await cloud.call("createVolume", diskofferingid=offering["id"])
    assert error.value.code is ErrorCode.PARAMETER
    fixed = await create(cloud, name="d1", disksize=1)
    with pytest.raises(ApiError, match="size cannot be chosen: disk offering d1 has 1 GiB"):
        await cloud.call("createVolume", diskofferingid=fixed["id"], size=3)


@pytest_twisted.ensureDeferred
async def test_an_offering_can_enlarge_what_a_snapshot_has(cloud: SmallCloud) -> None:
    SnapshotStore.of(cloud)
    vm = await deploy_running(cloud)
    root = present(cloud.database.run_now(volumes.root_of, vm.id))
    cloud.primary.sizes[root.uuid] = 2 * GIB
    snapshot = (await cloud.job("createSnapshot", volumeid=root.uuid)).instance_uuid
    small, large = await create(cloud, name="d1", disksize=1), await create(cloud, name="d5", disksize=5)
    custom = await create(cloud, name="own", customized="true")
    job = await cloud.job("createVolume", snapshotid=snapshot, diskofferingid=large["id"])
    assert job.result["volume"]["size"] == 5 * GIB
    job = await cloud.job("createVolume", snapshotid=snapshot, diskofferingid=custom["id"])
    assert job.result["volume"]["size"] == 2 * GIB
    with pytest.raises(Exception, match="is less than the 2 GiB"):
        await cloud.call("createVolume", snapshotid=snapshot, diskofferingid=small["id"])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": "x"}, "disksize: is missing"),
        ({"name": "x", "disksize": 0}, "disksize: must be 1 to"),
        ({"name": "x", "disksize": 99_999}, "disksize: must be 1 to"),
        ({"name": "x", "disksize": 1, "customized": "true"}, "disksize: cannot be set"),
        ({"name": "known", "disksize": 1}, "name: "),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_wrong_disk_offering_is_refused_by_its_parameter(
    cloud: SmallCloud, given: dict[str, Any], says: str
) -> None:
    await create(cloud, name="known", disksize=2)
    with pytest.raises(ModelError, match=says):
        await create(cloud, **given)
