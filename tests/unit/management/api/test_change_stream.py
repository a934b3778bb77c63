# SPDX-License-Identifier: Apache-2.0
"""Server-sent events of changed tables: what they name, and when a stream ends."""

from __future__ import annotations

import json

import pytest
import pytest_twisted
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from api_client import Browser
from settling import settled
from small_cloud import SmallCloud
from systemvm.management.api import change_stream, sessions
from systemvm.management.api.sessions import IDLE_LIMIT
from systemvm.management.state import events
from systemvm.management.state.columns import now


class Stream:
    """One page that follows changes, without a socket."""

    def __init__(self, browser: Browser, *, cookies: str | None = None, site: str = "same-origin") -> None:
        self._transport = StringTransport(peerAddress=IPv4Address("TCP", browser.address, 40000))
        self._protocol = browser.site.buildProtocol(IPv4Address("TCP", browser.address, 40000))
        self._protocol.makeConnection(self._transport)
        if cookies is None:
            cookies = f"{browser.headers.get('Cookie', '')}; sessionkey={browser.session_key}"
        lines = (
            "GET /client/changes HTTP/1.0",
            "Host: 127.0.0.1:8080",
            f"Sec-Fetch-Site: {site}",
            f"Cookie: {cookies}",
        )
        self._protocol.dataReceived("\r\n".join((*lines, "", "")).encode())

    @property
    def status(self) -> int:
        return int(self._transport.value().split()[1])

    @property
    def events(self) -> list[list[str]]:
        _, _, body = self._transport.value().partition(b"\r\n\r\n")
        return [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: ")]

    def close(self) -> None:
        self._protocol.connectionLost(Failure(ConnectionDone()))

    @property
    def ended(self) -> bool:
        return self._transport.disconnecting


async def follow(cloud: SmallCloud, browser: Browser) -> Stream:
    await browser.login()
    stream = Stream(browser)
    await settled(cloud.database)
    return stream


async def _fail(*_: object) -> None:
    raise OSError("disk is gone")


@pytest_twisted.ensureDeferred
async def test_a_page_learns_which_tables_have_changed(cloud: SmallCloud, browser: Browser) -> None:
    stream = await follow(cloud, browser)
    assert stream.events == [["*"]]
    await cloud.database.run(events.record, "TEST", "one")
    await settled(cloud.database)
    assert stream.events[1:] == [["events"]]


@pytest_twisted.ensureDeferred
async def test_what_changes_soon_after_comes_in_one_event(cloud: SmallCloud, browser: Browser) -> None:
    stream = await follow(cloud, browser)
    await cloud.database.run(events.record, "TEST", "one")
    await settled(cloud.database)
    await cloud.database.run(events.record, "TEST", "two")
    cloud.add_template(name="new")
    await settled(cloud.database)
    assert len(stream.events) == 2
    cloud.clock.advance(change_stream.PAUSE_S)
    await settled(cloud.database)
    assert len(stream.events) == 3
    assert {"events", "templates"} <= {*stream.events[2]}


@pytest_twisted.ensureDeferred
async def test_calls_of_other_pages_are_no_change(cloud: SmallCloud, browser: Browser) -> None:
    stream = await follow(cloud, browser)
    other = Browser(cloud)
    await other.login()
    await other.call("listZones")
    await settled(cloud.database)
    cloud.clock.advance(change_stream.PAUSE_S)
    await settled(cloud.database)
    assert not any({"sessions", "login_sources"} & set(event) for event in stream.events)


@pytest_twisted.ensureDeferred
async def test_a_stream_ends_with_its_session(cloud: SmallCloud, browser: Browser) -> None:
    stream = await follow(cloud, browser)
    assert not stream.ended
    await browser.call("logout")
    await settled(cloud.database)
    assert stream.ended


@pytest_twisted.ensureDeferred
async def test_a_stream_that_fails_ends_and_makes_room(
    cloud: SmallCloud, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_stream, "MAX_STREAMS", 1)
    stream = await follow(cloud, browser)
    with monkeypatch.context() as broken, capturedLogs() as logged:
        broken.setattr(sessions.Sessions, "peek", _fail)
        cloud.clock.advance(change_stream.CHECK_S)
        await settled(cloud.database)
    assert stream.ended
    assert [str(event["log_failure"].value) for event in logged if "log_failure" in event] == ["disk is gone"]
    again = Stream(browser)
    await settled(cloud.database)
    assert again.status == 200


@pytest_twisted.ensureDeferred
async def test_a_stream_does_not_keep_its_session_from_expiring(
    cloud: SmallCloud, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = await follow(cloud, browser)
    later = now() + IDLE_LIMIT
    monkeypatch.setattr(sessions, "now", lambda: later)
    cloud.clock.advance(change_stream.CHECK_S)
    await settled(cloud.database)
    assert stream.ended
    assert (await browser.call("listZones")).status == 401


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("missing", ["cookie", "key", "origin"])
async def test_only_the_page_of_a_session_gets_a_stream(
    cloud: SmallCloud, browser: Browser, missing: str
) -> None:
    await browser.login()
    cookies = {
        "cookie": f"sessionkey={browser.session_key}",
        "key": browser.headers["Cookie"],
        "origin": None,
    }[missing]
    site = "cross-site" if missing == "origin" else "same-origin"
    stream = Stream(browser, cookies=cookies, site=site)
    await settled(cloud.database)
    assert (stream.status, stream.events) == (401, [])


@pytest_twisted.ensureDeferred
async def test_streams_of_a_user_are_limited_and_a_closed_one_makes_room(
    cloud: SmallCloud, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_stream, "MAX_STREAMS", 1)
    stream = await follow(cloud, browser)
    refused = Stream(browser)
    await settled(cloud.database)
    assert refused.status == 429
    stream.close()
    await settled(cloud.database)
    again = Stream(browser)
    await settled(cloud.database)
    assert again.status == 200
