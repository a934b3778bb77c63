# SPDX-License-Identifier: Apache-2.0
"""extractTemplate and extractIso: who gets a link, which one, and what the SSVM receives."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.api.errors import ApiError
from systemvm.management.state import extract_links, templates
from systemvm.management.state.columns import now
from systemvm.management.state.schema import extract_links as table
from systemvm.management.state.templates import Template
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, NOT_CONNECTED, RpcError
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.agent import Capability
from systemvm.wire.extract import EXTRACT_LINKS, EXTRACT_SETUP, ExtractLink, ExtractLinks, ExtractSetup
from systemvm.wire.role import Role
from systemvm.wire.storage import DownloadState, ImageFormat

ADDRESS = "203.0.113.101"  # of the SSVM


@pytest.fixture
def ready(cloud: SmallCloud) -> Template:
    """Return a template of the user that is Ready; the SSVM has a public address and takes links."""
    for method in (EXTRACT_SETUP, EXTRACT_LINKS):
        cloud.ssvm_peer.answers[method] = lambda _: Acknowledgement()
    return template_of(cloud)


def template_of(cloud: SmallCloud, **columns: Any) -> Template:
    template, _ = cloud.add_template(owner=cloud.user)
    values = {"extractable": True, "name": "Tiny (v1)"} | columns
    return cloud.database.run_now(templates.update, template.id, **values)


def links_sent(cloud: SmallCloud) -> list[ExtractLink]:
    return [link for order in cloud.ssvm_peer.params_of(EXTRACT_LINKS) for link in order.links]


async def extract(cloud: SmallCloud, template: Template, **parameters: Any) -> dict[str, Any]:
    job = await cloud.job("extractTemplate", cloud.user, id=template.uuid, mode="HTTP_DOWNLOAD", **parameters)
    assert job.status == 1, job.result
    found: dict[str, Any] = job.result["template"]
    return found


@pytest_twisted.ensureDeferred
async def test_link_has_cloudstacks_shape_and_reaches_the_ssvm(cloud: SmallCloud, ready: Template) -> None:
    answer = await extract(cloud, ready, zoneid=cloud.zone.uuid)
    [link] = links_sent(cloud)
    url = f"https://{ADDRESS}/userdata/{link.secret}/Tiny-v1-.qcow2"
    assert unquote(answer["url"]) == url
    assert answer["url"].startswith("https%3A%2F%2F203.0.113.101%2Fuserdata%2F")
    assert answer["state"] == "DOWNLOAD_URL_CREATED" and answer["extractMode"] == "HTTP_DOWNLOAD"
    assert (answer["id"], answer["zoneid"]) == (ready.uuid, cloud.zone.uuid)
    assert (link.account_id, link.template_id, link.store) == (ready.account_id, ready.id, cloud.store.wire)
    assert 14_100 < link.expires_unix_s - time.time() <= 14_400
    event = await cloud.call("listEvents", type="TEMPLATE.EXTRACT")
    assert event["count"] == 1 and link.secret not in str(event)


@pytest_twisted.ensureDeferred
async def test_valid_link_is_used_again_and_an_expired_one_is_not(cloud: SmallCloud, ready: Template) -> None:
    first, again = await extract(cloud, ready), await extract(cloud, ready)
    assert first["url"] == again["url"]
    cloud.database.run_now(
        lambda connection: connection.execute(table.update().values(expires=now() - timedelta(seconds=1)))
    )
    assert (await extract(cloud, ready))["url"] != first["url"]
    assert len(cloud.database.run_now(extract_links.rows.all)) == 1  # the expired one is deleted


@pytest_twisted.ensureDeferred
async def test_restarted_ssvm_gets_certificate_and_links_again(cloud: SmallCloud, ready: Template) -> None:
    await extract(cloud, ready)
    [link] = links_sent(cloud)
    other = template_of(cloud)
    await extract(cloud, other)
    cloud.database.run_now(templates.request_deletion, other.id)
    cloud.ssvm_peer.calls.clear()
    await cloud.extraction.agent_up(cloud.ssvm.instance_name)
    [setup] = cloud.ssvm_peer.params_of(EXTRACT_SETUP)
    assert isinstance(setup, ExtractSetup)
    assert setup.origin == f"https://{ADDRESS}"
    assert setup.certificate_pem.startswith("-----BEGIN CERTIFICATE") and "PRIVATE" in setup.private_key_pem
    assert cloud.ssvm_peer.params_of(EXTRACT_LINKS) == [ExtractLinks([link], is_first=True)]


@pytest_twisted.ensureDeferred
async def test_ssvm_without_links_is_told_that_there_are_none(cloud: SmallCloud, ready: Template) -> None:
    await cloud.extraction.agent_up(cloud.ssvm.instance_name)
    assert cloud.ssvm_peer.params_of(EXTRACT_LINKS) == [ExtractLinks([], is_first=True)]


@pytest_twisted.ensureDeferred
async def test_ssvm_of_an_older_image_is_up_and_the_link_fails(cloud: SmallCloud, ready: Template) -> None:
    for method in (EXTRACT_SETUP, EXTRACT_LINKS):
        cloud.ssvm_peer.answers[method] = lambda _: RpcError(METHOD_NOT_FOUND, "no method")
    await cloud.extraction.agent_up(cloud.ssvm.instance_name)
    job = await cloud.job("extractTemplate", cloud.user, id=ready.uuid, mode="HTTP_DOWNLOAD")
    assert job.status == 2 and job.result["errorcode"] == 534
    assert "hint" in job.result
    assert storage.TEMPLATE_DELETE not in [method for method, _ in cloud.ssvm_peer.calls]


@pytest_twisted.ensureDeferred
async def test_patched_ssvm_without_a_socket_for_links_is_named(cloud: SmallCloud, ready: Template) -> None:
    cloud.agents.lacking.add((cloud.ssvm.instance_name, Capability.LINKS))
    job = await cloud.job("extractTemplate", cloud.user, id=ready.uuid, mode="HTTP_DOWNLOAD")
    assert job.status == 2 and "too old" in job.result["errortext"]
    assert f"restart {cloud.ssvm.instance_name}" in job.result["hint"]
    assert cloud.ssvm_peer.params_of(EXTRACT_LINKS) == []


@pytest_twisted.ensureDeferred
async def test_error_of_the_ssvm_is_the_jobs(cloud: SmallCloud, ready: Template) -> None:
    cloud.ssvm_peer.answers[EXTRACT_LINKS] = lambda _: RpcError(NOT_CONNECTED, "serve cannot be started")
    job = await cloud.job("extractTemplate", cloud.user, id=ready.uuid, mode="HTTP_DOWNLOAD")
    assert job.status == 2 and "serve cannot be started" in job.result["errortext"]


@pytest_twisted.ensureDeferred
async def test_without_an_ssvm_there_is_no_link(cloud: SmallCloud, ready: Template) -> None:
    cloud.agents.disconnect(cloud.ssvm.instance_name)
    job = await cloud.job("extractTemplate", cloud.user, id=ready.uuid, mode="HTTP_DOWNLOAD")
    assert job.status == 2 and job.result["errorcode"] == 534
    assert cloud.agents.up(Role.SSVM) == []


async def refusal(cloud: SmallCloud, template: Template, **parameters: Any) -> ApiError:
    with pytest.raises(ApiError) as refused:
        values = {"id": template.uuid, "mode": "HTTP_DOWNLOAD"} | parameters
        await cloud.call("extractTemplate", cloud.user, **values)
    return refused.value


@pytest_twisted.ensureDeferred
async def test_users_need_ownership_and_isextractable_and_administrators_do_not(
    cloud: SmallCloud, ready: Template
) -> None:
    kept = template_of(cloud, extractable=False)
    assert (await refusal(cloud, kept)).code == 431
    foreign = template_of(cloud, account_id=cloud.admin.account.id, public=True)
    assert (await refusal(cloud, foreign)).code == 401
    job = await cloud.job("extractTemplate", id=kept.uuid, mode="HTTP_DOWNLOAD")
    assert job.status == 1


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_extracted_is_refused(cloud: SmallCloud, ready: Template) -> None:
    assert (await refusal(cloud, ready, mode="FTP_UPLOAD")).code == 431
    assert (await refusal(cloud, template_of(cloud, type="SYSTEM"))).code == 431
    assert (await refusal(cloud, template_of(cloud, format=ImageFormat.ISO))).code == 431
    waiting, _ = cloud.add_template(state=DownloadState.DOWNLOAD_IN_PROGRESS)
    waiting = cloud.database.run_now(
        templates.update, waiting.id, account_id=cloud.user.account.id, extractable=True
    )
    assert (await refusal(cloud, waiting)).message == "The template has not been downloaded"
    cloud.settings.storage = SecondaryStorageConfig(disable_extraction=True)
    disabled = await refusal(cloud, ready)
    assert (disabled.code, disabled.message) == (401, "Extraction has been disabled by admin")


@pytest_twisted.ensureDeferred
async def test_iso_is_extracted_by_its_own_command(cloud: SmallCloud, ready: Template) -> None:
    iso = template_of(cloud, format=ImageFormat.ISO)
    job = await cloud.job("extractIso", cloud.user, id=iso.uuid, mode="HTTP_DOWNLOAD")
    assert unquote(job.result["iso"]["url"]).endswith("/Tiny-v1-.iso")
