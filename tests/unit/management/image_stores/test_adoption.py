# SPDX-License-Identifier: Apache-2.0
"""Another cloud's templates on a store: taken over as they are, served, extended; leftovers put away."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.management.image_stores.inspection import NoSsvmError, NoSuchPathError
from systemvm.management.state import accounts, adoption, templates, zones
from systemvm.management.state.jobs import Job
from systemvm.rpc.core.errors import RpcError
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.extract import EXTRACT_LINKS, EXTRACT_SETUP
from systemvm.wire.storage import (
    ImageFormat,
    ListedTemplate,
    StoreObject,
    StoreObjects,
    TemplateListing,
)

CENTOS = ListedTemplate(
    2, 204, "", "204-2-aa", "CentOS 7", ImageFormat.QCOW2, "3f9c.qcow2", 459276288, 8589934592,
    "{SHA-256}00", True, True, 1.0,
)  # fmt: skip
NETINST = ListedTemplate(
    3, 310, "", "netinst", "", ImageFormat.ISO, "netinst.iso", 1000, 1000, "", False, True, 1.0
)
BROKEN = ListedTemplate(2, 205, problem="template.properties is not valid: uniquename is missing")


def has(cloud: SmallCloud, *listed: ListedTemplate) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_LIST] = lambda request: TemplateListing(list(listed))


async def adopted(cloud: SmallCloud, **more: Any) -> dict[str, Any]:
    job: Job = await cloud.job("adoptImageStoreTemplates", id=cloud.store.uuid, **more)
    assert job.result is not None
    return dict(job.result["adoption"])


@pytest_twisted.ensureDeferred
async def test_usable_templates_become_ready_where_they_are(cloud: SmallCloud) -> None:
    has(cloud, CENTOS, BROKEN, NETINST)
    result = await adopted(cloud)
    assert len(result["adopted"]) == 2
    assert result["problems"] == ["2/205: template.properties is not valid: uniquename is missing"]
    [row] = (await cloud.call("listTemplates", templatefilter="all"))["template"]
    assert (row["name"], row["isready"], row["ispublic"], row["format"]) == ("CentOS 7", True, True, "QCOW2")
    assert (row["size"], row["physicalsize"]) == (8589934592, 459276288)
    [iso] = (await cloud.call("listIsos", isofilter="all"))["iso"]
    assert (iso["name"], iso["isready"]) == ("netinst", True)
    template = cloud.database.run_now(templates.by_uuid, row["id"])
    ref = cloud.database.run_now(templates.store_ref_of, template.id)
    assert ref is not None
    assert ref.install_path == "template/tmpl/2/204/3f9c.qcow2"
    methods = {method for method, _ in cloud.ssvm_peer.calls}
    assert methods == {storage.TEMPLATE_LIST}, "nothing on the store is changed"


@pytest_twisted.ensureDeferred
async def test_adopting_again_changes_nothing(cloud: SmallCloud) -> None:
    has(cloud, CENTOS)
    await adopted(cloud)
    assert await adopted(cloud) == {"adopted": [], "known": 1, "problems": []}


@pytest_twisted.ensureDeferred
async def test_a_new_template_never_gets_the_directory_of_an_adopted_one(cloud: SmallCloud) -> None:
    has(cloud, CENTOS, NETINST)
    await adopted(cloud)
    template, _ = cloud.add_template()
    assert template.id > 310


@pytest_twisted.ensureDeferred
async def test_an_owner_can_be_named(cloud: SmallCloud) -> None:
    has(cloud, CENTOS)
    await adopted(cloud, account="users", domainid=cloud.user.domain.uuid)
    [row] = (await cloud.call("listTemplates", templatefilter="all"))["template"]
    assert row["account"] == "users"


@pytest_twisted.ensureDeferred
async def test_the_same_template_on_a_second_store_is_a_second_copy(cloud: SmallCloud) -> None:
    has(cloud, CENTOS)
    await adopted(cloud)
    second = cloud.database.run_now(
        zones.add_store, name="b", zone_id=cloud.zone.id, url="nfs://10.12.0.3/b", nfs_version="4.2"
    )
    owner = cloud.database.run_now(accounts.account_by_id, cloud.admin.account.id)
    result = cloud.database.run_now(adoption.adopt, second, [CENTOS], owner)
    assert len(result.adopted) == 1
    [row] = (await cloud.call("listTemplates", templatefilter="all"))["template"]
    assert len(row["downloaddetails"]) == 2


@pytest_twisted.ensureDeferred
async def test_a_deletion_names_the_directory_of_the_other_cloud(cloud: SmallCloud) -> None:
    has(cloud, CENTOS)
    result = await adopted(cloud)
    cloud.ssvm_peer.answers[storage.TEMPLATE_DELETE] = lambda order: Acknowledgement()
    await cloud.job("deleteTemplate", id=result["adopted"][0])
    [order] = cloud.ssvm_peer.params_of(storage.TEMPLATE_DELETE)
    assert (order.account_id, order.template_id) == (2, 204)


@pytest_twisted.ensureDeferred
async def test_a_link_names_the_directory_of_the_other_cloud(cloud: SmallCloud) -> None:
    has(cloud, CENTOS)
    result = await adopted(cloud)
    for method in (EXTRACT_SETUP, EXTRACT_LINKS):
        cloud.ssvm_peer.answers[method] = lambda order: Acknowledgement()
    zone = cloud.zone.uuid
    await cloud.job("extractTemplate", id=result["adopted"][0], zoneid=zone, mode="HTTP_DOWNLOAD")
    [link] = [link for order in cloud.ssvm_peer.params_of(EXTRACT_LINKS) for link in order.links]
    assert (link.account_id, link.template_id) == (2, 204)


@pytest_twisted.ensureDeferred
async def test_a_listing_that_fails_adopts_nothing(cloud: SmallCloud) -> None:
    pages = [lambda: TemplateListing([CENTOS], "2/204"), lambda: RpcError.refused("store_failed", "EIO")]
    cloud.ssvm_peer.answers[storage.TEMPLATE_LIST] = lambda request: pages.pop(0)()
    job = await cloud.job("adoptImageStoreTemplates", id=cloud.store.uuid)
    assert job.result["errortext"] == "EIO"
    assert await cloud.call("listTemplates", templatefilter="all") == {}


# --- listImageStoreObjects


@pytest_twisted.ensureDeferred
async def test_a_directory_is_listed_with_the_template_that_owns_it(cloud: SmallCloud) -> None:
    has(cloud, CENTOS)
    await adopted(cloud)
    objects = [
        StoreObject("3f9c.qcow2", False, 459276288, 1.0),
        StoreObject("template.properties", False, 400, 2.0),
    ]
    cloud.ssvm_peer.answers[storage.STORAGE_BROWSE] = lambda request: StoreObjects(objects)
    found = await cloud.call("listImageStoreObjects", id=cloud.store.uuid, path="template/tmpl/2/204")
    assert found["count"] == 2
    [image, _] = found["datastoreobject"]
    assert (image["name"], image["isdirectory"], image["size"]) == ("3f9c.qcow2", False, 459276288)
    assert (image["templatename"], image["format"]) == ("CentOS 7", "QCOW2")
    [request] = cloud.ssvm_peer.params_of(storage.STORAGE_BROWSE)
    assert (request.path, request.store) == ("template/tmpl/2/204", cloud.store.wire)


@pytest_twisted.ensureDeferred
async def test_a_path_that_is_not_there_is_cloudstacks_error(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.STORAGE_BROWSE] = lambda request: RpcError.refused("source_missing", "no")
    with pytest.raises(NoSuchPathError, match="Path a/b doesn't exist in store"):
        await cloud.call("listImageStoreObjects", id=cloud.store.uuid, path="a/b")
    cloud.agents.disconnect("s-1-VM")
    with pytest.raises(NoSsvmError):
        await cloud.call("listImageStoreObjects", id=cloud.store.uuid)


# --- leftovers


def test_only_jobs_of_removed_rows_are_leftovers(cloud: SmallCloud) -> None:
    _, kept = cloud.add_template()
    template, gone = cloud.add_template()
    cloud.database.run_now(templates.remove, template.id)
    jobs = {kept.job_id, gone.job_id, "of another cloud"}
    assert cloud.database.run_now(adoption.forgotten_jobs, cloud.store.id, jobs) == {gone.job_id}
