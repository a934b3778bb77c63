# SPDX-License-Identifier: Apache-2.0
"""Only its owner and administrators see the query and the user part of a source's URL."""

from __future__ import annotations

import io
from typing import Any

import pytest
import pytest_twisted
from twisted.logger import Logger

from small_cloud import SmallCloud
from systemvm.management.api.principal import Principal
from systemvm.management.state import accounts, events, templates
from systemvm.management.state.status import AccountType
from systemvm.management.templates import downloads
from systemvm.management.templates.registration import Registration
from systemvm.service.journal import TextObserver
from systemvm.ssvm.mover_messages import MoverJob
from systemvm.wire.source_url import parse
from systemvm.wire.storage import DownloadError, DownloadRequest, DownloadState, ImageFormat, Store

CANARY = "canary-b5d1f0"
URL = f"https://images.example.test/a/tiny.qcow2?X-Amz-Credential={CANARY}&X-Amz-Signature={CANARY}"
SHOWN = "https://images.example.test/a/tiny.qcow2?[redacted]"


def other_user(cloud: SmallCloud) -> Principal:
    """A user of another account than the template's."""

    def make(connection: Any) -> Principal:
        account = accounts.create_account(connection, "other", AccountType.USER, cloud.user.domain.id)
        return Principal(accounts.create_user(connection, "otto", account, None), account, cloud.user.domain)

    return cloud.database.run_now(make)


async def urls(cloud: SmallCloud, user: Principal, noun: str, **arguments: str) -> list[str]:
    answer = await cloud.call(f"list{noun}s", user, **arguments)
    return [row["url"] for row in answer.get(noun.lower(), [])]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "arguments", [{"templatefilter": "community"}, {"templatefilter": "executable"}, {"id": ""}]
)
async def test_others_see_a_public_templates_url_without_its_signature(
    cloud: SmallCloud, arguments: dict[str, str]
) -> None:
    template, _ = cloud.add_template(owner=cloud.user, public=True, url=URL)
    if "id" in arguments:
        arguments = {"id": template.uuid, "templatefilter": "community"}
    assert await urls(cloud, other_user(cloud), "Template", **arguments) == [SHOWN]
    assert await urls(cloud, cloud.user, "Template", **arguments) == [URL]
    assert await urls(cloud, cloud.admin, "Template", **arguments) == [URL]


@pytest_twisted.ensureDeferred
async def test_others_see_a_public_isos_url_without_its_signature(cloud: SmallCloud) -> None:
    cloud.add_template(owner=cloud.user, public=True, url=URL, format=ImageFormat.ISO)
    assert await urls(cloud, other_user(cloud), "Iso", isofilter="community") == [SHOWN]
    assert await urls(cloud, cloud.user, "Iso", isofilter="community") == [URL]


@pytest_twisted.ensureDeferred
async def test_status_and_events_do_not_quote_a_source_answer(cloud: SmallCloud) -> None:
    template, ref = cloud.add_template(
        owner=cloud.user, public=True, url=URL, state=DownloadState.DOWNLOAD_IN_PROGRESS
    )
    error = DownloadError("http_status", f"answered 403 for {URL}", f"look at {URL}")
    cloud.database.run_now(downloads.fail, ref.id, error)
    listed = await cloud.call(
        "listTemplates", other_user(cloud), templatefilter="community", id=template.uuid
    )
    assert CANARY not in str(listed)
    assert SHOWN in listed["template"][0]["status"]
    listed_events = await cloud.call("listEvents", cloud.admin, resourceid=template.uuid)
    assert SHOWN in str(listed_events)
    assert CANARY not in str(listed_events)


def test_event_contains_no_query(cloud: SmallCloud) -> None:
    cloud.database.run_now(events.record, "TEST", f"reads {URL}, then https://u:{CANARY}@h.test/x")
    [event] = cloud.database.run_now(events.newest, 1)
    assert event.description == f"reads {SHOWN} then https://[redacted]@h.test/x"


def test_log_contains_no_query_in_text_or_fields() -> None:
    stream = io.StringIO()
    log = Logger(namespace="n", observer=TextObserver("t", stream))
    log.error("reading {url}: {error}", url=URL, error=ValueError(URL))
    assert CANARY not in stream.getvalue()
    assert "images.example.test/a/tiny.qcow2" in stream.getvalue()


def test_repr_of_a_value_with_the_url_omits_its_query(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template(url=URL)
    store = Store("10.12.0.2", "/x")
    request = DownloadRequest("j", "r", 1, 1, "n", "d", URL, ImageFormat.RAW, store, 1)
    parsed = parse(URL)
    job = MoverJob("j", parsed.host, parsed.authority, parsed.target, True, ImageFormat.RAW, 1)
    registration = Registration.of(format_name="QCOW2", name="n", url=URL)
    row = cloud.database.run_now(templates.by_uuid, template.uuid)
    for value in (request, parsed, job, registration, row):
        assert CANARY not in repr(value), type(value)
