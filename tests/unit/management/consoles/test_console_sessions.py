# SPDX-License-Identifier: Apache-2.0
"""Sessions of a CPVM: the VNC server that they lead to, their ends and their load."""

from __future__ import annotations

from datetime import timedelta

import pytest
import pytest_twisted

from console_tokens import authorize, change_session, new_token, refusal, target
from small_cloud import SmallCloud
from systemvm.management.state import console_sessions
from systemvm.management.state.columns import now
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from systemvm.rpc.core.errors import FORBIDDEN, RpcError
from systemvm.wire import console
from systemvm.wire.console import ConsoleRefusal


@pytest_twisted.ensureDeferred
async def test_target_is_the_current_vnc_server(cloud: SmallCloud, vm: Instance) -> None:
    session = await authorize(cloud, await new_token(cloud, vm))
    first = await target(cloud, session.session_id)
    assert (first.host, first.port, first.password) == ("10.11.0.1", 5901, "pw-5901")
    assert "pw-5901" not in repr(first)
    cloud.update_instance(vm, vnc_port=5907, sealed_vnc_password=cloud.seal.close("new"))
    second = await target(cloud, session.session_id)
    assert (second.port, second.password) == (5907, "new")


@pytest_twisted.ensureDeferred
async def test_a_session_belongs_to_its_cpvm(cloud: SmallCloud, vm: Instance, other_proxy: Instance) -> None:
    session = await authorize(cloud, await new_token(cloud, vm))
    assert await refusal(target(cloud, session.session_id, other_proxy)) is ConsoleRefusal.SESSION_ENDED


@pytest_twisted.ensureDeferred
async def test_session_with_an_unspent_token_is_refused(cloud: SmallCloud, vm: Instance) -> None:
    await new_token(cloud, vm)
    [row] = cloud.database.run_now(console_sessions.list_all)
    assert await refusal(target(cloud, row.uuid)) is ConsoleRefusal.SESSION_ENDED


@pytest_twisted.ensureDeferred
async def test_a_session_ends_with_its_lifetime(cloud: SmallCloud, vm: Instance) -> None:
    token = await new_token(cloud, vm)
    session = await authorize(cloud, token)
    change_session(cloud, token, session_expires=now() - timedelta(seconds=1))
    assert await refusal(target(cloud, session.session_id)) is ConsoleRefusal.SESSION_ENDED


@pytest_twisted.ensureDeferred
async def test_a_session_waits_for_its_machine(cloud: SmallCloud, vm: Instance) -> None:
    session = await authorize(cloud, await new_token(cloud, vm))
    for state, why in (
        (InstanceState.STOPPING, ConsoleRefusal.MACHINE_STOPPING),
        (InstanceState.STOPPED, ConsoleRefusal.MACHINE_STOPPED),
        (InstanceState.STARTING, ConsoleRefusal.MACHINE_STARTING),
    ):
        cloud.update_instance(vm, state=state)
        assert await refusal(target(cloud, session.session_id)) is why
    cloud.update_instance(vm, state=InstanceState.RUNNING, vnc_port=5909)
    assert (await target(cloud, session.session_id)).port == 5909


@pytest_twisted.ensureDeferred
async def test_stop_does_not_end_a_session(cloud: SmallCloud, vm: Instance) -> None:
    session = await authorize(cloud, await new_token(cloud, vm))
    await cloud.machines.stop(vm.id)
    assert await refusal(target(cloud, session.session_id)) is ConsoleRefusal.MACHINE_STOPPED
    assert cloud.database.run_now(console_sessions.by_uuid, session.session_id).removed is None


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("session_id", ["", "x", "00000000-0000-4000-8000-000000000000"])
async def test_unknown_session_has_ended(cloud: SmallCloud, session_id: str) -> None:
    assert await refusal(target(cloud, session_id)) is ConsoleRefusal.SESSION_ENDED


@pytest_twisted.ensureDeferred
async def test_cpvm_reports_ends_of_its_own_sessions_repeatedly(
    cloud: SmallCloud, vm: Instance, other_proxy: Instance
) -> None:
    session = await authorize(cloud, await new_token(cloud, vm))
    params = {"session_id": session.session_id, "reason": "r" * 999}
    with pytest.raises(RpcError) as refused:
        await cloud.from_agent(other_proxy, console.CONSOLE_CLOSED, params)
    assert refused.value.code == FORBIDDEN
    assert await target(cloud, session.session_id), "another CPVM cannot end it"
    for _ in range(2):
        await cloud.from_agent(cloud.cpvm, console.CONSOLE_CLOSED, params)
    assert await refusal(target(cloud, session.session_id)) is ConsoleRefusal.SESSION_ENDED


@pytest_twisted.ensureDeferred
async def test_load_is_stored_with_the_cpvm(cloud: SmallCloud) -> None:
    await cloud.from_agent(cloud.cpvm, console.CONSOLE_LOAD, {"session_ids": ["a", "b", "b"]})
    [row] = (await cloud.call("listSystemVms", systemvmtype="consoleproxy"))["systemvm"]
    assert row["activeviewersessions"] == 2
