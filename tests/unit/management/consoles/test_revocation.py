# SPDX-License-Identifier: Apache-2.0
"""Consoles end when access is revoked: rows at once, sessions by console.end, unspent tokens too."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from attrs import evolve

from console_tokens import authorize, target
from small_cloud import SmallCloud
from small_cloud.agents import FakePeer
from systemvm.management.state import console_revocations, schema
from systemvm.management.state.columns import now
from systemvm.management.state.instances import Instance
from systemvm.rpc.core.errors import NOT_CONNECTED, RpcError
from systemvm.wire import console
from systemvm.wire.console import ConsoleEnd, ConsoleRefusal
from systemvm.wire.role import Role

LOGIN, OTHER_LOGIN = "login-1", "login-2"


@pytest.fixture
def cpvm(cloud: SmallCloud) -> FakePeer:
    peer = cloud.agents.connect(cloud.cpvm.instance_name, Role.CPVM)
    peer.answers[console.CONSOLE_END] = lambda _: None
    return peer


async def token_for(cloud: SmallCloud, vm: Instance, caller: Any) -> str:
    answer = await cloud.call("createConsoleEndpoint", caller, virtualmachineid=vm.uuid)
    return str(answer["consoleendpoint"]["websocket"]["token"])


async def code_of(awaitable: Any) -> str:
    with pytest.raises(RpcError) as refused:
        await awaitable
    return str(refused.value.data["code"])


@pytest_twisted.ensureDeferred
async def test_logout_ends_only_the_consoles_of_its_login(
    cloud: SmallCloud, cpvm: FakePeer, vm: Instance
) -> None:
    mine = evolve(cloud.user, login_uuid=LOGIN)
    opened = (await authorize(cloud, await token_for(cloud, vm, mine))).session_id
    unspent = await token_for(cloud, vm, mine)
    others = [
        (await authorize(cloud, await token_for(cloud, vm, caller))).session_id
        for caller in (evolve(cloud.admin, login_uuid=OTHER_LOGIN), cloud.admin)
    ]
    await cloud.revocation.of_login(LOGIN)
    assert cpvm.params_of(console.CONSOLE_END) == [ConsoleEnd([opened], "logged_out", "logged_out")]
    assert await code_of(target(cloud, opened)) == "logged_out"
    assert await code_of(authorize(cloud, unspent)) == "logged_out"
    for session_id in others:
        assert (await target(cloud, session_id)).port == 5901


@pytest_twisted.ensureDeferred
async def test_lost_permission_ends_the_consoles(cloud: SmallCloud, cpvm: FakePeer, vm: Instance) -> None:
    opened = (await authorize(cloud, await token_for(cloud, vm, cloud.user))).session_id
    admins = (await authorize(cloud, await token_for(cloud, vm, cloud.admin))).session_id
    await cloud.revocation.of_users([cloud.user.user.id])
    assert await code_of(target(cloud, opened)) == "access_revoked"
    assert [end.session_ids for end in cpvm.params_of(console.CONSOLE_END)] == [[opened]]
    assert await target(cloud, admins)


@pytest_twisted.ensureDeferred
async def test_destroyed_machine_ends_its_consoles(cloud: SmallCloud, cpvm: FakePeer, vm: Instance) -> None:
    opened = (await authorize(cloud, await token_for(cloud, vm, cloud.user))).session_id
    unspent = await token_for(cloud, vm, cloud.admin)
    await cloud.job("destroyVirtualMachine", cloud.user, id=vm.uuid)
    assert cpvm.params_of(console.CONSOLE_END) == [ConsoleEnd([opened], "machine_gone", "machine_gone")]
    await cloud.call("recoverVirtualMachine", id=vm.uuid)
    assert await code_of(target(cloud, opened)) == "machine_gone", "a recovered machine needs a new link"
    assert await code_of(authorize(cloud, unspent)) == "machine_gone"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("away", [True, False])
async def test_unreachable_cpvm_delays_no_logout(
    cloud: SmallCloud, cpvm: FakePeer, vm: Instance, away: bool
) -> None:
    opened = (await authorize(cloud, await token_for(cloud, vm, cloud.user))).session_id
    if away:
        cloud.agents.disconnect(cloud.cpvm.instance_name)
    else:
        cpvm.answers[console.CONSOLE_END] = lambda _: RpcError(NOT_CONNECTED, "connection lost")
    await cloud.revocation.of_users([cloud.user.user.id])
    assert await code_of(target(cloud, opened)) == ConsoleRefusal.ACCESS_REVOKED.value
    reasons = cloud.database.run_now(console_revocations.close_reasons, [opened, "unknown"])
    assert reasons == {opened: "access_revoked"}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("table", [schema.users, schema.accounts])
@pytest.mark.parametrize("changes", [{"state": "disabled"}, {"state": "locked"}, {"removed": now()}])
async def test_link_created_while_its_user_was_disabled_opens_nothing(
    cloud: SmallCloud, vm: Instance, table: Any, changes: dict[str, Any]
) -> None:
    token = await token_for(cloud, vm, cloud.user)
    # only the row: the user's consoles were ended before this link was created
    cloud.database.run_now(lambda connection: connection.execute(table.update().values(changes)))
    assert await code_of(authorize(cloud, token)) == "access_revoked"
