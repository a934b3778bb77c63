# SPDX-License-Identifier: Apache-2.0
"""Operations on a console proxy that wait until its consoles have ended: stop, reboot, destroy, patch."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted

from console_tokens import authorize, new_token
from settling import settled
from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.management.consoles.draining import CLOSING_S, POLL_S
from systemvm.management.state import instances
from systemvm.management.state.columns import now
from systemvm.management.state.instances import Instance
from systemvm.wire import console
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.console import CONSOLE_DRAIN, ConsoleClosed, ConsoleDrain


async def begin(cloud: SmallCloud, command: str, **more: str) -> str:
    """Start a command with drain; return its job."""
    peer = cloud.agents.peer(cloud.cpvm.instance_name)
    assert peer is not None
    peer.answers[CONSOLE_DRAIN] = lambda _: Acknowledgement()
    started = await cloud.call(command, id=cloud.cpvm.uuid, drain="true", **more)
    await settled(cloud.database)
    return str(started["jobid"])


async def poll(cloud: SmallCloud) -> None:
    cloud.clock.advance(POLL_S)
    await settled(cloud.database)


async def job(cloud: SmallCloud, identity: str) -> dict[str, Any]:
    return dict(await cloud.call("queryAsyncJobResult", jobid=identity))


def told(cloud: SmallCloud) -> list[ConsoleDrain]:
    peer = cloud.agents.peer(cloud.cpvm.instance_name)
    assert peer is not None
    return list(peer.params_of(CONSOLE_DRAIN))


@pytest.mark.parametrize(
    ("command", "operation"),
    [("stopSystemVm", "stop"), ("rebootSystemVm", "reboot"), ("destroySystemVm", "destroy")],
)
@pytest_twisted.ensureDeferred
async def test_it_begins_when_the_last_console_has_ended(
    cloud: SmallCloud, vm: Instance, command: str, operation: str
) -> None:
    session = await authorize(cloud, await new_token(cloud, vm))
    identity = await begin(cloud, command)
    answer = await cloud.call("createConsoleEndpoint", virtualmachineid=vm.uuid)
    assert not answer["consoleendpoint"]["success"], "no new console meanwhile"
    [listed] = (await cloud.call("listSystemVms", id=cloud.cpvm.uuid))["systemvm"]
    assert listed["drainuntil"]
    await poll(cloud)
    assert cloud.system_vms.calls == []
    assert (await job(cloud, identity))["jobstatus"] == 0
    closed = ConsoleClosed(session.session_id, "left", "session_ended")
    await cloud.from_agent(cloud.cpvm, console.CONSOLE_CLOSED, closed)
    await poll(cloud)
    assert [what for what, _, _ in cloud.system_vms.calls] == [operation]
    assert (await job(cloud, identity))["jobstatus"] == 1
    if operation != "destroy":
        assert told(cloud)[-1] == ConsoleDrain(None), "it takes consoles when it runs again"
        assert cloud.database.run_now(instances.by_uuid, cloud.cpvm.uuid).drain_until is None


@pytest_twisted.ensureDeferred
async def test_it_begins_at_the_deadline_of_the_zone(cloud: SmallCloud, vm: Instance) -> None:
    await authorize(cloud, await new_token(cloud, vm))
    await cloud.call("updateConfiguration", name="consoleproxy.drain.timeout", value="600000")
    identity = await begin(cloud, "rebootSystemVm", forced="true")
    assert 590 < (told(cloud)[0].deadline_s or 0) <= 600
    cloud.database.run_now(instances.update, cloud.cpvm.id, drain_until=now() - timedelta(seconds=CLOSING_S))
    await poll(cloud)
    assert cloud.system_vms.calls == [("reboot", cloud.cpvm.uuid, True)]
    assert (await job(cloud, identity))["jobstatus"] == 1


@pytest_twisted.ensureDeferred
async def test_whoever_undoes_the_drain_cancels_what_waits_for_it(cloud: SmallCloud, vm: Instance) -> None:
    await authorize(cloud, await new_token(cloud, vm))
    identity = await begin(cloud, "destroySystemVm")
    await cloud.call("drainConsoleProxy", id=cloud.cpvm.uuid, cancel="true")
    await poll(cloud)
    assert cloud.system_vms.calls == []
    ended = await job(cloud, identity)
    assert (ended["jobstatus"], "was undone" in ended["jobresult"]["errortext"]) == (2, True)


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_is_killed_meanwhile_leaves_no_drain(cloud: SmallCloud, vm: Instance) -> None:
    await authorize(cloud, await new_token(cloud, vm))
    identity = await begin(cloud, "destroySystemVm")
    await cloud.jobs.resume_pending()  # as the next daemon does
    assert told(cloud)[-1] == ConsoleDrain(None)
    assert cloud.database.run_now(instances.by_uuid, cloud.cpvm.uuid).drain_until is None
    ended = await job(cloud, identity)
    assert (ended["jobstatus"], "interrupted" in ended["jobresult"]["errortext"]) == (2, True)
    assert cloud.system_vms.calls == []
    await poll(cloud)


@pytest_twisted.ensureDeferred
async def test_only_a_console_proxy_is_emptied(cloud: SmallCloud) -> None:
    with pytest.raises(ApiError):
        await cloud.call("stopSystemVm", id=cloud.ssvm.uuid, drain="true")
    assert cloud.system_vms.calls == []
