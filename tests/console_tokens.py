# SPDX-License-Identifier: Apache-2.0
"""Console tokens and sessions for tests: created by the API, and used as a CPVM does."""

from __future__ import annotations

from typing import Any

import pytest

from small_cloud import SmallCloud
from systemvm.management.consoles.token import token_hash
from systemvm.management.state import console_sessions, instances
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState, InstanceType
from systemvm.rpc.core.errors import FORBIDDEN, RpcError
from systemvm.wire import console
from systemvm.wire.console import ConsoleRefusal, ConsoleSession


def add_vm(cloud: SmallCloud, name: str, port: int) -> Instance:
    return cloud.database.run_now(
        instances.create,
        InstanceType.USER,
        account_id=cloud.user.account.id,
        zone_id=cloud.zone.id,
        name=name,
        state=InstanceState.RUNNING,
        vnc_address="10.11.0.1",
        vnc_port=port,
        sealed_vnc_password=cloud.seal.close(f"pw-{port}"),
    )


async def new_token(cloud: SmallCloud, vm: Instance, **more: str) -> str:
    cloud.agents.disconnect("v-4-VM")  # so that the first CPVM gets the token
    answer = await cloud.call("createConsoleEndpoint", cloud.user, virtualmachineid=vm.uuid, **more)
    return str(answer["consoleendpoint"]["websocket"]["token"])


async def authorize(
    cloud: SmallCloud,
    token: str,
    by: Instance | None = None,
    *,
    extra: str = "",
    with_target: bool = False,
) -> ConsoleSession:
    params: dict[str, Any] = {"token": token, "client_address": "198.51.100.9", "request_id": "r"}
    params |= {"extra": extra, "with_target": with_target}
    session = await cloud.from_agent(by or cloud.cpvm, console.CONSOLE_AUTHORIZE, params)
    assert isinstance(session, ConsoleSession)
    return session


async def target(cloud: SmallCloud, session_id: str, by: Instance | None = None) -> Any:
    params = {"session_id": session_id, "request_id": "r"}
    return await cloud.from_agent(by or cloud.cpvm, console.CONSOLE_TARGET, params)


async def refusal(awaitable: Any) -> ConsoleRefusal:
    with pytest.raises(RpcError) as refused:
        await awaitable
    assert refused.value.message
    if refused.value.code == FORBIDDEN:  # of another CPVM's objects
        return ConsoleRefusal(refused.value.reason)
    code = ConsoleRefusal(refused.value.data["code"])
    assert refused.value.reason == code.fallback.value
    return code


def change_session(cloud: SmallCloud, token: str, **changes: Any) -> None:
    table = console_sessions.rows.table.c
    cloud.database.run_now(
        console_sessions.rows.update_where, table.token_hash == token_hash(token), **changes
    )
