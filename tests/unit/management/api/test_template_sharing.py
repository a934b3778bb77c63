# SPDX-License-Identifier: Apache-2.0
"""updateTemplate, permissions and copies of templates and ISOs, as CloudStack's clients use them."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from settling import settled
from small_cloud import SmallCloud
from systemvm.management import os_types
from systemvm.management.api.errors import ApiError
from systemvm.management.state import accounts, jobs, templates, zones
from systemvm.management.state.jobs import Job
from systemvm.management.state.status import AccountType, InstanceType, JobStatus
from systemvm.management.state.templates import Template
from systemvm.management.state.zones import Zone
from systemvm.management.templates.zone_copies import POLL_INTERVAL_S
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.role import Role
from systemvm.wire.storage import CopyRequest, DownloadError, DownloadState, DownloadStatus, ImageFormat

READY = DownloadState.DOWNLOADED


async def names(cloud: SmallCloud, wanted: str, **more: Any) -> list[str]:
    answer = await cloud.call("listTemplates", cloud.user, templatefilter=wanted, **more)
    return [row["name"] for row in answer.get("template", [])]


@pytest_twisted.ensureDeferred
async def test_changes_are_reflected_by_the_list(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template()
    os_type = os_types.OS_TYPES[0]
    answer = await cloud.call(
        "updateTemplate", id=template.uuid, name="new", displaytext="a new one", bootable="false",
        ostypeid=os_type.id, requireshvm="false", **{"details[0].rootDiskController": "virtio"},
    )  # fmt: skip
    [row] = (await cloud.call("listTemplates", templatefilter="all"))["template"]
    assert answer["template"] == row
    assert (row["name"], row["displaytext"], row["bootable"]) == ("new", "a new one", False)
    assert (row["ostypeid"], row["requireshvm"]) == (os_type.id, False)
    assert row["details"] == {"rootDiskController": "virtio"}
    await cloud.call("updateTemplate", id=template.uuid, cleanupdetails="true", displaytext="")
    [row] = (await cloud.call("listTemplates", templatefilter="all"))["template"]
    assert (row["details"], row["displaytext"]) == ({}, "new")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("command", "parameters"),
    [
        ("updateTemplate", {"name": "x"}),
        ("updateTemplatePermissions", {"ispublic": "true"}),
        ("listTemplatePermissions", {}),
        ("copyTemplate", {"destzoneids": ["00000000-0000-4000-8000-000000000000"]}),
    ],
)
async def test_only_owner_and_administrator_change_a_template(
    cloud: SmallCloud, command: str, parameters: dict[str, Any]
) -> None:
    template, _ = cloud.add_template(public=True)
    with pytest.raises(ApiError, match="account users must not"):
        await cloud.call(command, cloud.user, id=template.uuid, **parameters)


@pytest_twisted.ensureDeferred
async def test_an_iso_is_not_a_template(cloud: SmallCloud) -> None:
    iso, _ = cloud.add_template(format=ImageFormat.ISO)
    for command in ("updateTemplate", "listTemplatePermissions"):
        with pytest.raises(ApiError, match="is not a template"):
            await cloud.call(command, id=iso.uuid)
    answer = await cloud.call("updateIso", id=iso.uuid, displaytext="changed")
    assert answer["iso"]["displaytext"] == "changed"


@pytest_twisted.ensureDeferred
async def test_a_shared_template_is_seen_and_used_by_the_account(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template()
    assert await names(cloud, "shared") == []
    offering = (await cloud.call("listServiceOfferings", name="small"))["serviceoffering"][0]["id"]
    machine = {"zoneid": cloud.zone.uuid, "templateid": template.uuid, "serviceofferingid": offering}
    with pytest.raises(ApiError, match="must not use this template"):
        await cloud.call("deployVirtualMachine", cloud.user, startvm="false", **machine)
    done = await cloud.call("updateTemplatePermissions", id=template.uuid, op="add", accounts="users")
    assert done == {"success": True}
    assert await names(cloud, "shared") == await names(cloud, "sharedexecutable") == ["tiny"]
    assert await names(cloud, "executable") == ["tiny"]
    assert await names(cloud, "self", id=template.uuid) == ["tiny"]
    shown = (await cloud.call("listTemplatePermissions", id=template.uuid))["templatepermission"]
    assert (shown["account"], shown["ispublic"]) == (["users"], False)
    assert shown["domainid"] == cloud.admin.domain.uuid
    await cloud.call("deployVirtualMachine", cloud.user, startvm="false", **machine)
    await cloud.call("updateTemplatePermissions", id=template.uuid, op="remove", accounts="users")
    assert await names(cloud, "shared") == []


@pytest_twisted.ensureDeferred
async def test_reset_takes_everything_back(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template()
    await cloud.call(
        "updateTemplatePermissions", id=template.uuid, op="add", accounts="users", ispublic="true",
        isfeatured="true", isextractable="true",
    )  # fmt: skip
    assert await names(cloud, "featured") == ["tiny"]
    await cloud.call("updateTemplatePermissions", id=template.uuid, op="reset")
    shown = (await cloud.call("listTemplatePermissions", id=template.uuid))["templatepermission"]
    assert (shown["account"], shown["ispublic"]) == ([], False)
    assert await names(cloud, "featured") == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"accounts": "users"}, "Invalid operation on accounts"),
        ({"op": "add"}, "Operation add requires accounts"),
        ({"op": "give", "accounts": "users"}, "Invalid value for parameter op"),
        ({"op": "add", "accounts": "users,nobody"}, "Unable to grant a launch permission to account nobody"),
    ],
)
async def test_a_wrong_permission_changes_none(
    cloud: SmallCloud, parameters: dict[str, str], message: str
) -> None:
    template, _ = cloud.add_template()
    with pytest.raises(ApiError, match=message):
        await cloud.call("updateTemplatePermissions", id=template.uuid, **parameters)
    shown = (await cloud.call("listTemplatePermissions", id=template.uuid))["templatepermission"]
    assert shown["account"] == []


@pytest_twisted.ensureDeferred
async def test_users_share_their_own_and_leave_what_is_for_administrators(cloud: SmallCloud) -> None:
    cloud.database.run_now(accounts.create_account, "others", AccountType.USER, cloud.user.domain.id)
    template, _ = cloud.add_template(owner=cloud.user)
    await cloud.call("updateTemplatePermissions", cloud.user, id=template.uuid, op="add", accounts="others")
    shown = await cloud.call("listTemplatePermissions", cloud.user, id=template.uuid)
    assert shown["templatepermission"] == {"id": template.uuid, "ispublic": False, "account": ["others"]}
    for parameter in ("isfeatured", "isextractable"):
        with pytest.raises(ApiError, match=r"Admin"):
            await cloud.call("updateTemplatePermissions", cloud.user, id=template.uuid, **{parameter: "true"})


# --- copies in other zones


@pytest.fixture
def zone2(cloud: SmallCloud) -> Zone:
    zone = cloud.database.run_now(zones.put_zone, "zone2", arch="amd64")
    cloud.database.run_now(
        zones.add_store, name="far", zone_id=zone.id, url="nfs://10.22.0.2/far", nfs_version="4.2"
    )
    vm = cloud.add_system_vm(InstanceType.SECONDARY_STORAGE)
    cloud.update_instance(vm, zone_id=zone.id)
    peer = cloud.agents.connect(vm.instance_name, Role.SSVM)
    peer.answers[storage.TEMPLATE_COPY] = copied
    peer.answers[storage.TEMPLATE_DELETE] = lambda order: Acknowledgement()
    return zone


def copied(request: CopyRequest) -> DownloadStatus:
    path = f"template/tmpl/{request.account_id}/{request.template_id}/copy.qcow2"
    return DownloadStatus(request.job_id, READY, 1000, 1000, None, path, 1000, 4096)


async def copy(cloud: SmallCloud, template: Template, zone: Zone, **more: Any) -> Job:
    started = await cloud.call("copyTemplate", id=template.uuid, destzoneids=[zone.uuid], **more)
    for _ in range(20):
        await settled(cloud.database)
        if cloud.database.run_now(jobs.by_uuid, started["jobid"]).status is not JobStatus.PENDING:
            break
        await cloud.dispatch.reconcile()
        cloud.clock.advance(POLL_INTERVAL_S)
    return cloud.database.run_now(jobs.by_uuid, started["jobid"])


@pytest_twisted.ensureDeferred
async def test_a_copy_is_the_same_template_in_the_other_zone(cloud: SmallCloud, zone2: Zone) -> None:
    template, _ = cloud.add_template()
    job = await copy(cloud, template, zone2, sourcezoneid=cloud.zone.uuid)
    assert job.status is JobStatus.SUCCEEDED
    assert job.result is not None
    answer = job.result["template"]
    assert (answer["id"], answer["zoneid"], answer["isready"]) == (template.uuid, zone2.uuid, True)
    rows = (await cloud.call("listTemplates", templatefilter="all"))["template"]
    assert [(row["id"], row["zonename"]) for row in rows] == [
        (template.uuid, "zone1"),
        (template.uuid, "zone2"),
    ]
    again = await copy(cloud, template, zone2)
    assert again.status is JobStatus.SUCCEEDED, "a template that is there already is no error"
    assert (await cloud.call("listTemplates", templatefilter="all", zoneid=zone2.uuid))["count"] == 1


@pytest_twisted.ensureDeferred
async def test_a_copy_is_deleted_in_one_zone_and_stays_in_the_other(cloud: SmallCloud, zone2: Zone) -> None:
    template, _ = cloud.add_template()
    cloud.ssvm_peer.answers[storage.TEMPLATE_DELETE] = lambda order: Acknowledgement()
    await copy(cloud, template, zone2)
    await cloud.job("deleteTemplate", id=template.uuid, zoneid=cloud.zone.uuid)
    [row] = (await cloud.call("listTemplates", templatefilter="all"))["template"]
    assert (row["zonename"], row["isready"]) == ("zone2", True)
    await cloud.job("deleteTemplate", id=template.uuid, zoneid=zone2.uuid)
    assert await cloud.call("listTemplates", templatefilter="all") == {}


@pytest_twisted.ensureDeferred
async def test_a_copy_that_fails_ends_its_job_with_the_reason(cloud: SmallCloud, zone2: Zone) -> None:
    template, _ = cloud.add_template(url=None)
    peer = cloud.agents.peer("s-3-VM")
    assert peer is not None
    peer.answers[storage.TEMPLATE_COPY] = lambda request: DownloadStatus(
        request.job_id, DownloadState.DOWNLOAD_ERROR, error=DownloadError("store_unreachable", "no route")
    )
    job = await copy(cloud, template, zone2)
    assert (job.status, job.result and job.result["errortext"]) == (JobStatus.FAILED, "no route")
    peer.answers[storage.TEMPLATE_COPY] = copied
    assert (await copy(cloud, template, zone2)).status is JobStatus.SUCCEEDED


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_copied_is_refused(cloud: SmallCloud, zone2: Zone) -> None:
    template, _ = cloud.add_template(state=DownloadState.NOT_DOWNLOADED)
    for parameters, message in (
        ({}, "Either destzoneid or destzoneids"),
        ({"destzoneid": zone2.uuid}, "is not ready in any zone"),
        ({"destzoneid": zone2.uuid, "sourcezoneid": zone2.uuid}, "different source and destination"),
        ({"destzoneid": zone2.uuid, "sourcezoneid": cloud.zone.uuid}, "is not ready in zone zone1"),
    ):
        with pytest.raises(ApiError, match=message):
            await cloud.call("copyTemplate", id=template.uuid, **parameters)
    assert templates.zones_of(cloud.database.engine.connect(), template.id) == {cloud.zone.id}
