# SPDX-License-Identifier: Apache-2.0
"""Links to any file of a store: which paths have one, who serves it, and what an SSVM gets that is back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted

from api_requests import refusal
from small_cloud import SmallCloud
from systemvm.management.api.errors import ErrorCode
from systemvm.management.state import events, schema, store_buckets, store_object_links, zones
from systemvm.management.state.columns import now
from systemvm.rpc.core.errors import NOT_CONNECTED, RpcError
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.extract import (
    EXTRACT_LINKS,
    EXTRACT_PRESIGN,
    EXTRACT_SETUP,
    ExtractLink,
    PresignedLink,
    PresignRequest,
)
from systemvm.wire.storage import BrowseRequest, StoreObject, StoreObjects

#: A file in a directory of the same name, too.
FILES = ("template/tmpl/2/204/template.properties", "snapshots/x/x", "snapshots/notes")


def _browse(request: BrowseRequest) -> StoreObjects | RpcError:
    if request.path in FILES:
        return StoreObjects([StoreObject(request.path.rpartition("/")[2], False, 3, 1.0)])
    prefix = f"{request.path}/" if request.path else ""
    names = sorted({file.removeprefix(prefix).partition("/") for file in FILES if file.startswith(prefix)})
    if not names:
        return RpcError.refused("source_missing", "no")
    return StoreObjects([StoreObject(name, bool(slash), 3, 1.0) for name, slash, _ in names])


@pytest.fixture(autouse=True)
def _serves(cloud: SmallCloud) -> None:
    for method in (EXTRACT_SETUP, EXTRACT_LINKS):
        cloud.ssvm_peer.answers[method] = lambda _: Acknowledgement()
    cloud.ssvm_peer.answers[storage.STORAGE_BROWSE] = _browse


async def download(cloud: SmallCloud, path: str) -> Any:
    return await cloud.job("downloadImageStoreObject", id=cloud.store.uuid, path=path)


def links_sent(cloud: SmallCloud) -> list[ExtractLink]:
    return [link for order in cloud.ssvm_peer.params_of(EXTRACT_LINKS) for link in order.links]


@pytest.mark.parametrize(
    ("path", "shown"), [(FILES[0], "template.properties"), ("/snapshots/notes", "notes"), (FILES[1], "x")]
)
@pytest_twisted.ensureDeferred
async def test_a_file_has_a_link_that_ssvms_serve(cloud: SmallCloud, path: str, shown: str) -> None:
    job = await download(cloud, path)
    assert job.result_code == 0, job.result
    link = job.result["downloadimagestoreobjectresponse"]
    [sent] = links_sent(cloud)
    assert (sent.store_path, sent.account_id, sent.template_id) == (path.strip("/"), 0, 0)
    assert (sent.store, sent.file_name) == (cloud.store.wire, shown)
    assert link["url"] == f"https://203.0.113.101{sent.path}"
    assert (link["name"], link["state"]) == (shown, "DOWNLOAD_URL_CREATED")
    [event] = cloud.database.run_now(events.newest, 1)
    assert (event.type, event.resource_uuid) == ("IMAGE.STORE.OBJECT.DOWNLOAD", cloud.store.uuid)


@pytest.mark.parametrize(
    "path", ["/", "snapshots", "snapshots/x", "snapshots/nothing", "../etc", ".systemvm-jobs/x"]
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_file_has_no_link(cloud: SmallCloud, path: str) -> None:
    job = await download(cloud, path)
    assert job.result_code == ErrorCode.PARAMETER, job.result
    assert links_sent(cloud) == []
    assert (await download(cloud, "snapshots/x/x")).result_code == 0


@pytest_twisted.ensureDeferred
async def test_an_ssvm_that_is_back_gets_the_links_that_have_not_expired(cloud: SmallCloud) -> None:
    await download(cloud, FILES[0])
    await download(cloud, FILES[1])
    first, second = links_sent(cloud)
    rows = cloud.database.run_now(store_object_links.rows.all)
    old = schema.store_object_links.c.id == rows[0].id
    expired = now() - timedelta(seconds=1)
    cloud.database.run_now(store_object_links.rows.update_where, old, expires=expired)
    cloud.ssvm_peer.calls.clear()
    await cloud.extraction.agent_up(cloud.ssvm.instance_name)
    assert [link.path for link in links_sent(cloud)] == [second.path]
    await download(cloud, FILES[0])
    assert len(cloud.database.run_now(store_object_links.rows.all)) == 2, "the expired row is deleted"
    assert first.path != second.path


@pytest_twisted.ensureDeferred
async def test_an_ssvm_that_cannot_serve_is_an_error(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[EXTRACT_LINKS] = lambda _: RpcError(NOT_CONNECTED, "serve cannot be started")
    job = await download(cloud, FILES[0])
    assert (job.result_code, "serve cannot be started" in job.result["errortext"]) == (534, True)


@pytest_twisted.ensureDeferred
async def test_a_bucket_serves_its_objects_itself_when_users_reach_it(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[EXTRACT_PRESIGN] = lambda order: PresignedLink("https://s3.example.test/x?signed")
    store = cloud.database.run_now(
        zones.store_rows.update, cloud.store.id, provider="S3", url="https://s3.example.test/images"
    )
    bucket = cloud.database.run_now(
        store_buckets.rows.insert,
        store_id=store.id,
        access_key="AKID",
        sealed_secret=b"x",
        region="",
        has_public_links=True,
    )
    job = await download(cloud, FILES[0])
    assert job.result["downloadimagestoreobjectresponse"]["url"] == "https://s3.example.test/x?signed"
    [order] = cloud.ssvm_peer.params_of(EXTRACT_PRESIGN)
    assert order == PresignRequest(store.wire, None, order.expires_s, FILES[0])
    await cloud.extraction.agent_up(cloud.ssvm.instance_name)
    assert links_sent(cloud) == [], "an SSVM does not serve it"
    cloud.database.run_now(store_buckets.rows.update, bucket.id, has_public_links=False)
    assert (await download(cloud, FILES[0])).result_code == ErrorCode.PARAMETER


@pytest_twisted.ensureDeferred
async def test_only_administrators_get_links_to_files(cloud: SmallCloud) -> None:
    asked = {"id": cloud.store.uuid, "path": FILES[0]}
    error = await refusal(cloud, "downloadImageStoreObject", cloud.user, **asked)
    assert error.code is ErrorCode.UNSUPPORTED
