# SPDX-License-Identifier: Apache-2.0
"""watchConsoleSession: links to sessions that are open, for administrators."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from console_tokens import add_vm, authorize, new_token, refusal, target
from small_cloud import SmallCloud
from systemvm.management.api import envelope
from systemvm.management.api.errors import ApiError
from systemvm.management.consoles.supervision import WATCHING
from systemvm.management.state.instances import Instance
from systemvm.wire import console
from systemvm.wire.console import ConsoleClosed, ConsoleRefusal, ConsoleSession


async def watch(cloud: SmallCloud, **which: str) -> dict[str, Any]:
    answer = await cloud.call("watchConsoleSession", cloud.admin, **which)
    return dict(answer["consoleendpoint"])


async def open_console(cloud: SmallCloud, vm: Instance) -> ConsoleSession:
    return await authorize(cloud, await new_token(cloud, vm))


@pytest_twisted.ensureDeferred
async def test_an_administrator_watches_a_session_by_its_id_or_its_machine(
    cloud: SmallCloud, vm: Instance
) -> None:
    watched = await open_console(cloud, vm)
    for which in ({"id": watched.session_id}, {"virtualmachineid": vm.uuid}):
        link = await watch(cloud, **which)
        assert link["url"].endswith(link["websocket"]["token"])
        session = await authorize(cloud, link["websocket"]["token"])
        assert (session.watches, session.policy) == (watched.session_id, WATCHING)
        assert session.virtual_machine_id == vm.uuid
        assert (await target(cloud, session.session_id)).port == 5901
        assert await refusal(authorize(cloud, link["websocket"]["token"])) is ConsoleRefusal.TOKEN_USED


@pytest_twisted.ensureDeferred
async def test_who_watched_whom_is_recorded(cloud: SmallCloud, vm: Instance) -> None:
    watched = await open_console(cloud, vm)
    session = await authorize(cloud, (await watch(cloud, id=watched.session_id))["websocket"]["token"])
    rows = (await cloud.call("listConsoleSessions"))["consolesession"]
    assert {row["id"]: row.get("watches") for row in rows} == {
        watched.session_id: None,
        session.session_id: watched.session_id,
    }
    events = (await cloud.call("listEvents", resourceid=watched.session_id))["event"]
    [event] = [one for one in events if one["type"] == "CONSOLE.WATCH"]
    for part in (cloud.admin.user.username, "198.51.100.9", session.session_id):
        assert part in event["description"]


@pytest_twisted.ensureDeferred
async def test_a_users_own_lists_do_not_say_who_watches(cloud: SmallCloud, vm: Instance) -> None:
    """Whether the user is told is the zone's setting, not a question of which list is read."""
    watched = await open_console(cloud, vm)
    before = await cloud.call("listEvents", cloud.user)
    await authorize(cloud, (await watch(cloud, id=watched.session_id))["websocket"]["token"])
    assert await cloud.call("listEvents", cloud.user) == before
    [row] = (await cloud.call("listConsoleSessions", cloud.user, activeonly="false"))["consolesession"]
    assert row["id"] == watched.session_id


@pytest_twisted.ensureDeferred
async def test_only_an_open_session_can_be_watched(cloud: SmallCloud, vm: Instance) -> None:
    assert "nobody has" in (await watch(cloud, virtualmachineid=vm.uuid))["details"]
    await new_token(cloud, vm)
    assert "nobody has" in (await watch(cloud, virtualmachineid=vm.uuid))["details"]
    watched = await open_console(cloud, vm)
    watcher = await authorize(cloud, (await watch(cloud, id=watched.session_id))["websocket"]["token"])
    assert "watches another" in (await watch(cloud, id=watcher.session_id))["details"]
    link = await watch(cloud, virtualmachineid=vm.uuid)  # the one that watches does not count
    closed = ConsoleClosed(watched.session_id, "left", "session_ended")
    await cloud.from_agent(cloud.cpvm, console.CONSOLE_CLOSED, closed)
    assert await refusal(authorize(cloud, link["websocket"]["token"])) is ConsoleRefusal.WATCHED_ENDED
    assert await refusal(target(cloud, watcher.session_id)) is ConsoleRefusal.WATCHED_ENDED
    assert "no open console session" in (await watch(cloud, id=watched.session_id))["details"]


@pytest_twisted.ensureDeferred
async def test_of_several_sessions_one_must_be_named(cloud: SmallCloud, vm: Instance) -> None:
    first, second = await open_console(cloud, vm), await open_console(cloud, vm)
    answer = await watch(cloud, virtualmachineid=vm.uuid)
    assert "2 sessions" in answer["details"]
    assert first.session_id in answer["hint"]
    assert (await watch(cloud, id=second.session_id))["success"]
    for which in ({}, {"id": first.session_id, "virtualmachineid": vm.uuid}):
        with pytest.raises(ApiError):
            await watch(cloud, **which)


@pytest_twisted.ensureDeferred
async def test_a_link_goes_to_the_proxy_of_the_session(
    cloud: SmallCloud, vm: Instance, other_proxy: Instance
) -> None:
    watched = await open_console(cloud, vm)
    cloud.agents.disconnect(cloud.cpvm.instance_name)
    assert "not connected" in (await watch(cloud, id=watched.session_id))["details"]


@pytest_twisted.ensureDeferred
async def test_users_cannot_watch(cloud: SmallCloud) -> None:
    vm = add_vm(cloud, "two", 5902)
    session = await open_console(cloud, vm)
    with pytest.raises(ApiError):
        await cloud.call("watchConsoleSession", cloud.user, id=session.session_id)


@pytest_twisted.ensureDeferred
async def test_a_zone_that_requires_a_second_secret_requires_it_here(cloud: SmallCloud, vm: Instance) -> None:
    watched = await open_console(cloud, vm)
    name = "consoleproxy.extra.security.validation.enabled"
    await cloud.call("updateConfiguration", name=name, value="true")
    assert "token is missing" in (await watch(cloud, id=watched.session_id))["details"]
    token = (await watch(cloud, id=watched.session_id, token="s3cond"))["websocket"]["token"]
    assert (await authorize(cloud, token, extra="s3cond")).watches == watched.session_id


@pytest_twisted.ensureDeferred
async def test_an_operator_names_the_address_from_which_a_session_is_watched(
    cloud: SmallCloud, vm: Instance
) -> None:
    session = await open_console(cloud, vm)
    await cloud.call("updateConfiguration", name="novnc.console.sourceip.check.enabled", value="true")
    command = cloud.table.find("watchConsoleSession")

    async def by_socket(**more: str) -> Any:
        result = await command.run(cloud.admin, {"id": session.session_id} | more, "root", "request-1")
        return envelope.result_body(command, result)["consoleendpoint"]

    refused = await by_socket()
    assert (refused["success"], "token" in refused["websocket"]) == (False, False)
    assert (await by_socket(clientaddress="198.51.100.9"))["success"]
