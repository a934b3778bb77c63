# SPDX-License-Identifier: Apache-2.0
"""Tags of objects: given, listed with the object and by themselves, taken away; of one's own objects only."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from api_requests import NOWHERE, refusal
from small_cloud import SmallCloud
from snapshot_store import SnapshotStore
from systemvm.management.api.errors import ErrorCode
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.storage import ImageFormat
from user_vms import deploy_running, deploy_stopped

ENV = {"tags[0].key": "env", "tags[0].value": "test"}


async def tag(cloud: SmallCloud, uuid: str, kind: str, command: str = "createTags", **tags: str) -> None:
    job = await cloud.job(command, resourceids=uuid, resourcetype=kind, **tags)
    assert job.result == {"success": True}


async def pairs(cloud: SmallCloud, **which: Any) -> list[tuple[str, str]]:
    answer = await cloud.call("listTags", listall="true", **which)
    return [(row["key"], row["value"]) for row in answer.get("tag", [])]


@pytest_twisted.ensureDeferred
async def test_an_object_has_the_tags_that_it_was_given(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud)
    [volume] = (await cloud.call("listVolumes"))["volume"]
    [template] = (await cloud.call("listTemplates", templatefilter="all"))["template"]
    for uuid, kind in ((vm.uuid, "userVm"), (volume["id"], "Volume"), (template["id"], "template")):
        await tag(cloud, uuid, kind, **ENV)
    [shown] = (await cloud.call("listVirtualMachines", id=vm.uuid))["virtualmachine"]
    [disk] = (await cloud.call("listVolumes"))["volume"]
    [image] = (await cloud.call("listTemplates", templatefilter="all"))["template"]
    for each, kind in ((shown, "UserVm"), (disk, "Volume"), (image, "Template")):
        [found] = each["tags"]
        assert (found["key"], found["value"], found["resourcetype"]) == ("env", "test", kind)
        assert found["resourceid"] == each["id"]
    assert len(await pairs(cloud)) == 3
    assert await pairs(cloud, resourceid=vm.uuid, key="env") == [("env", "test")]
    assert await pairs(cloud, resourcetype="Volume", value="live") == []


@pytest_twisted.ensureDeferred
async def test_tags_are_deleted_by_key_by_value_or_all(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud)
    more = {"tags[1].key": "role", "tags[1].value": "web", "tags[2].key": "x", "tags[2].value": "y"}
    await tag(cloud, vm.uuid, "UserVm", **ENV, **more)
    await tag(cloud, vm.uuid, "UserVm", "deleteTags", **{"tags[0].key": "env", "tags[0].value": "other"})
    assert len(await pairs(cloud)) == 3
    await tag(cloud, vm.uuid, "UserVm", "deleteTags", **{"tags[0].key": "env"})
    assert await pairs(cloud) == [("role", "web"), ("x", "y")]
    await tag(cloud, vm.uuid, "UserVm", "deleteTags")
    assert await pairs(cloud) == []


@pytest_twisted.ensureDeferred
async def test_tags_of_a_removed_object_are_not_listed(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud)
    await tag(cloud, vm.uuid, "UserVm", **ENV)
    await cloud.job("destroyVirtualMachine", id=vm.uuid, expunge="true")
    assert await pairs(cloud) == []


@pytest_twisted.ensureDeferred
async def test_users_tag_and_see_their_own_only(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud)
    given = {"resourceids": vm.uuid, "resourcetype": "UserVm"}
    for command in ("createTags", "deleteTags"):
        error = await refusal(cloud, command, cloud.user, **given, **ENV)
        assert error.code is ErrorCode.UNAUTHORIZED
    await tag(cloud, vm.uuid, "UserVm", **ENV)
    assert await cloud.call("listTags", cloud.user, listall="true") == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"tags[0].key": "env"},
        {"tags[0].value": "x"},
        {"tags[0].name": "env", "tags[0].value": "x"},
        {"tags[0].key": "k" * 256, "tags[0].value": "x"},
        ENV | {"tags[1].key": "env", "tags[1].value": "x"},
        ENV | {"resourcetype": "Network"},
        ENV | {"resourcetype": "Template"},
        ENV | {"resourceids": ","},
        ENV | {"resourceids": NOWHERE},
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_wrong_tag_is_refused(cloud: SmallCloud, wrong: dict[str, str]) -> None:
    vm = await deploy_stopped(cloud)
    given = {"resourceids": vm.uuid, "resourcetype": "UserVm"} | wrong
    with pytest.raises(SystemVmError) as refused:
        await cloud.call("createTags", **given)
    assert refused.value.code in (ErrorCode.PARAMETER, FailureCode.NOT_FOUND)
    assert await pairs(cloud) == []


@pytest_twisted.ensureDeferred
async def test_a_key_is_given_once(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud)
    await tag(cloud, vm.uuid, "UserVm", **ENV)
    error = await refusal(cloud, "createTags", resourceids=vm.uuid, resourcetype="UserVm", **ENV)
    assert error.message == f"tag env already on {vm.uuid} with value test"


@pytest_twisted.ensureDeferred
async def test_lists_are_limited_to_objects_with_one_of_the_tags(cloud: SmallCloud) -> None:
    vm, other = await deploy_stopped(cloud), await deploy_stopped(cloud)
    volume, _ = (await cloud.call("listVolumes"))["volume"]
    template, _ = (await cloud.call("listTemplates", templatefilter="all"))["template"]
    iso, _ = cloud.add_template(name="cd", format=ImageFormat.ISO)
    kinds = {"UserVm": vm.uuid, "Volume": volume["id"], "Template": template["id"], "ISO": iso.uuid}
    lists: dict[str, tuple[str, str, dict[str, str]]] = {
        "UserVm": ("listVirtualMachines", "virtualmachine", {}),
        "Volume": ("listVolumes", "volume", {}),
        "Template": ("listTemplates", "template", {"templatefilter": "all"}),
        "ISO": ("listIsos", "iso", {}),
    }

    async def found(kind: str, **tags: str) -> list[str]:
        command, name, more = lists[kind]
        answer = await cloud.call(command, **more, **tags)
        rows = answer.get(name, [])
        assert len(rows) == answer.get("count", 0)
        return [row["id"] for row in rows]

    for kind, uuid in kinds.items():
        assert await found(kind, **ENV) == []
        await tag(cloud, uuid, kind, **ENV)
        assert await found(kind, **ENV) == [uuid]
        assert await found(kind, **ENV | {"tags[0].value": "live"}) == []
    await tag(cloud, other.uuid, "UserVm", **{"tags[0].key": "role", "tags[0].value": "web"})
    either = ENV | {"tags[1].key": "role", "tags[1].value": "web"}
    assert await found("UserVm", **either) == [vm.uuid, other.uuid]
    await tag(cloud, vm.uuid, "UserVm", "deleteTags")
    assert await found("UserVm", **either) == [other.uuid]
    error = await refusal(cloud, "listVolumes", **{"tags[0].key": "env"})
    assert error.code is ErrorCode.PARAMETER


@pytest_twisted.ensureDeferred
async def test_a_snapshot_is_taken_with_tags_and_found_by_them(cloud: SmallCloud) -> None:
    SnapshotStore.of(cloud)
    vm = await deploy_running(cloud, cloud.user)
    [volume] = (await cloud.call("listVolumes", cloud.user, virtualmachineid=vm.uuid))["volume"]
    cloud.primary.sizes[volume["id"]] = 1 << 30
    job = await cloud.job("createSnapshot", cloud.user, volumeid=volume["id"], **ENV)
    await cloud.job("createSnapshot", cloud.user, volumeid=volume["id"])
    [shown] = job.result["snapshot"]["tags"]
    assert (shown["key"], shown["value"], shown["resourcetype"]) == ("env", "test", "Snapshot")
    assert (await cloud.call("listSnapshots", cloud.user))["count"] == 2
    [found] = (await cloud.call("listSnapshots", cloud.user, **ENV))["snapshot"]
    assert (found["id"], found["tags"]) == (job.result["snapshot"]["id"], [shown])
    error = await refusal(cloud, "createSnapshot", cloud.user, volumeid=volume["id"], **{"tags[0].key": "a"})
    assert error.code is ErrorCode.PARAMETER
    assert (await cloud.call("listSnapshots", cloud.user))["count"] == 2, "nothing was taken"
