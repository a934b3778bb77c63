# SPDX-License-Identifier: Apache-2.0
"""listConsoleSessions and endConsoleSession, and links that take a console over."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from console_tokens import add_vm, authorize, new_token, refusal, target
from settling import settled
from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.management.state.instances import Instance
from systemvm.rpc.core.errors import NOT_CONNECTED, RpcError
from systemvm.wire import console
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.console import ConsoleClosed, ConsoleRefusal, ConsoleSessions, LiveSession


async def listed(cloud: SmallCloud, *by: Any, **arguments: Any) -> list[dict[str, Any]]:
    answer = await cloud.call("listConsoleSessions", *by, **arguments)
    return list(answer.get("consolesession", []))


@pytest_twisted.ensureDeferred
async def test_open_sessions_are_listed_in_cloudstacks_shape(cloud: SmallCloud, vm: Instance) -> None:
    token = await new_token(cloud, vm)
    assert await listed(cloud) == [], "a link that nobody opened is not a session"
    [link] = await listed(cloud, activeonly="false")
    assert "acquired" not in link
    session = await authorize(cloud, token)
    [row] = await listed(cloud)
    assert (row["id"], row["user"], row["virtualmachinename"]) == (
        session.session_id,
        cloud.user.user.username,
        "one",
    )
    assert (row["clientaddress"], row["consoleendpointcreatoraddress"]) == ("198.51.100.9", "192.0.2.1")
    assert row["acquired"]
    assert "removed" not in row


@pytest_twisted.ensureDeferred
async def test_each_filter_selects(cloud: SmallCloud, vm: Instance) -> None:
    other = add_vm(cloud, "two", 5902)
    first = await authorize(cloud, await new_token(cloud, vm))
    await authorize(cloud, await new_token(cloud, other))
    await new_token(cloud, vm)
    user, nobody = cloud.user, "00000000-0000-4000-8000-000000000000"
    for arguments, count in (
        ({}, 2),
        ({"id": first.session_id}, 1),
        ({"virtualmachineid": vm.uuid}, 1),
        ({"userid": user.user.uuid}, 2),
        ({"userid": cloud.admin.user.uuid}, 0),
        ({"accountid": user.account.uuid}, 2),
        ({"accountid": nobody}, 0),
        ({"domainid": user.domain.uuid, "isrecursive": "true"}, 2),
        ({"clientaddress": "198.51.100.9"}, 2),
        ({"clientaddress": "198.51.100.1"}, 0),
        ({"consoleendpointcreatoraddress": "192.0.2.1"}, 2),
        ({"startdate": "2020-01-01"}, 2),
        ({"enddate": "2020-01-01"}, 0),
        ({"hostid": nobody}, 0),
        ({"activeonly": "false"}, 3),
        ({"activeonly": "false", "acquired": "true"}, 2),
        ({"keyword": "two"}, 1),
    ):
        assert len(await listed(cloud, **arguments)) == count, arguments


@pytest_twisted.ensureDeferred
async def test_users_see_and_end_only_their_own(cloud: SmallCloud, vm: Instance) -> None:
    mine = await authorize(cloud, await new_token(cloud, vm))
    answer = await cloud.call("createConsoleEndpoint", cloud.admin, virtualmachineid=vm.uuid)
    theirs = await authorize(cloud, answer["consoleendpoint"]["websocket"]["token"])
    assert [row["id"] for row in await listed(cloud, cloud.user)] == [mine.session_id]
    assert len(await listed(cloud)) == 2
    with pytest.raises(ApiError):
        await cloud.call("endConsoleSession", cloud.user, id=theirs.session_id)
    assert len(await listed(cloud)) == 2
    await cloud.call("endConsoleSession", cloud.user, id=mine.session_id)
    with pytest.raises(ApiError):
        await cloud.call("endConsoleSession", cloud.user, id=mine.session_id)
    assert [row["id"] for row in await listed(cloud)] == [theirs.session_id]


@pytest_twisted.ensureDeferred
async def test_an_ended_session_ends_at_its_proxy_and_cannot_come_back(
    cloud: SmallCloud, vm: Instance
) -> None:
    peer = cloud.agents.peer(cloud.cpvm.instance_name)
    assert peer is not None
    peer.answers[console.CONSOLE_END] = lambda _: Acknowledgement()
    session = await authorize(cloud, await new_token(cloud, vm))
    await cloud.call("endConsoleSession", id=session.session_id)
    await settled(cloud.database)
    [end] = peer.params_of(console.CONSOLE_END)
    assert (end.session_ids, end.code) == ([session.session_id], "closed")
    assert await refusal(target(cloud, session.session_id)) is ConsoleRefusal.CLOSED
    closed = ConsoleClosed(session.session_id, "closed", "closed", 1000, 20)
    await cloud.from_agent(cloud.cpvm, console.CONSOLE_CLOSED, closed)
    [row] = await listed(cloud, activeonly="false")
    assert (row["closecode"], row["sentbytes"], row["receivedbytes"]) == ("closed", 1000, 20)


@pytest_twisted.ensureDeferred
async def test_a_link_can_be_voided_before_it_is_opened(cloud: SmallCloud, vm: Instance) -> None:
    token = await new_token(cloud, vm)
    [link] = await listed(cloud, activeonly="false")
    await cloud.call("endConsoleSession", cloud.user, id=link["id"])
    assert await refusal(authorize(cloud, token)) is ConsoleRefusal.CLOSED


@pytest_twisted.ensureDeferred
async def test_the_end_of_a_session_is_recorded_with_code_and_bytes(cloud: SmallCloud, vm: Instance) -> None:
    session = await authorize(cloud, await new_token(cloud, vm))
    closed = ConsoleClosed(session.session_id, "it was not used", "session_idle", 4096, 128)
    for _ in range(2):  # repeating it has no effect
        await cloud.from_agent(cloud.cpvm, console.CONSOLE_CLOSED, closed)
    assert await listed(cloud) == []
    [row] = await listed(cloud, activeonly="false", acquired="true")
    assert (row["closecode"], row["closereason"]) == ("session_idle", "it was not used")
    assert (row["sentbytes"], row["receivedbytes"]) == (4096, 128)
    assert row["removed"]


@pytest_twisted.ensureDeferred
async def test_live_figures_come_from_the_proxy_and_one_that_hangs_hides_nothing(
    cloud: SmallCloud, vm: Instance
) -> None:
    peer = cloud.agents.peer(cloud.cpvm.instance_name)
    assert peer is not None
    session = await authorize(cloud, await new_token(cloud, vm))
    live = LiveSession(session.session_id, "198.51.100.77", True, 2.5, 777, 7)
    peer.answers[console.CONSOLE_LIST] = lambda _: ConsoleSessions([session.session_id], [live])
    [row] = await listed(cloud)
    assert (row["connected"], row["idleseconds"], row["sentbytes"]) == (True, 2.5, 777)
    assert row["clientaddress"] == "198.51.100.77"
    peer.answers[console.CONSOLE_LIST] = lambda _: RpcError(NOT_CONNECTED, "gone")
    [row] = await listed(cloud)
    assert "connected" not in row


@pytest_twisted.ensureDeferred
async def test_a_link_takes_a_console_over_when_it_is_opened(cloud: SmallCloud, vm: Instance) -> None:
    other = add_vm(cloud, "two", 5902)
    elsewhere = await authorize(cloud, await new_token(cloud, other))
    before = await authorize(cloud, await new_token(cloud, vm))
    shared = await authorize(cloud, await new_token(cloud, vm))
    token = await new_token(cloud, vm, takeover="true")
    assert len(await listed(cloud)) == 3, "an unopened link takes nothing over"
    newest = await authorize(cloud, token)
    assert {row["id"] for row in await listed(cloud)} == {elsewhere.session_id, newest.session_id}
    for ended in (before, shared):
        assert await refusal(target(cloud, ended.session_id)) is ConsoleRefusal.TAKEN_OVER
