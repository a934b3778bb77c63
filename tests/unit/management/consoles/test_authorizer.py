# SPDX-License-Identifier: Apache-2.0
"""A token is spent once, before it expires, by its CPVM and for its machine; all else is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import ILogObserver, globalLogPublisher

from small_cloud import SmallCloud
from systemvm.management.consoles.token import token_hash
from systemvm.management.state import console_sessions, instances
from systemvm.management.state.columns import now
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState, InstanceType
from systemvm.rpc.core.errors import FORBIDDEN, INVALID_PARAMS, RpcError
from systemvm.wire import console
from systemvm.wire.console import ConsoleRefusal, ConsoleSession
from systemvm.wire.role import Role


@pytest.fixture
def vm(cloud: SmallCloud) -> Instance:
    return add_vm(cloud, "one", 5901)


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


@pytest.fixture
def other_proxy(cloud: SmallCloud) -> Instance:
    proxy = cloud.add_system_vm(InstanceType.CONSOLE_PROXY)
    cloud.agents.connect(proxy.instance_name, Role.CPVM)
    return proxy


async def new_token(cloud: SmallCloud, vm: Instance) -> str:
    cloud.agents.disconnect("v-4-VM")  # so that the first CPVM gets the token
    answer = await cloud.call("createConsoleEndpoint", cloud.user, virtualmachineid=vm.uuid)
    return str(answer["consoleendpoint"]["websocket"]["token"])


async def authorize(cloud: SmallCloud, token: str, by: Instance | None = None) -> ConsoleSession:
    params = {"token": token, "client_address": "198.51.100.9", "request_id": "r"}
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


# --- tokens


@pytest_twisted.ensureDeferred
async def test_token_opens_the_session_of_its_machine(cloud: SmallCloud, vm: Instance) -> None:
    session = await authorize(cloud, await new_token(cloud, vm))
    assert (session.virtual_machine_id, session.display_name) == (vm.uuid, "one")
    assert session.lifetime_s > 60
    row = cloud.database.run_now(console_sessions.by_uuid, session.session_id)
    assert row.client_address == "198.51.100.9"
    assert row.acquired is not None


@pytest_twisted.ensureDeferred
async def test_a_token_is_spent_once(cloud: SmallCloud, vm: Instance) -> None:
    token = await new_token(cloud, vm)
    await authorize(cloud, token)
    assert await refusal(authorize(cloud, token)) is ConsoleRefusal.TOKEN_USED


@pytest_twisted.ensureDeferred
async def test_only_one_of_concurrent_callers_spends_a_token(cloud: SmallCloud, vm: Instance) -> None:
    token = await new_token(cloud, vm)
    racing = [Deferred.fromCoroutine(authorize(cloud, token)) for _ in range(20)]
    results: list[tuple[bool, Any]] = await DeferredList(racing, consumeErrors=True)
    assert sum(succeeded for succeeded, _ in results) == 1
    reasons = {failure.value.reason for succeeded, failure in results if not succeeded}
    assert reasons == {"token_used"}


@pytest_twisted.ensureDeferred
async def test_replaced_token_is_refused_as_replaced(cloud: SmallCloud, vm: Instance) -> None:
    first, second = await new_token(cloud, vm), await new_token(cloud, vm)
    assert await refusal(authorize(cloud, first)) is ConsoleRefusal.TOKEN_REPLACED
    assert (await authorize(cloud, second)).virtual_machine_id == vm.uuid


@pytest_twisted.ensureDeferred
async def test_expired_token_is_refused(cloud: SmallCloud, vm: Instance) -> None:
    token = await new_token(cloud, vm)
    change_session(cloud, token, token_expires=now() - timedelta(seconds=1))
    assert await refusal(authorize(cloud, token)) is ConsoleRefusal.TOKEN_EXPIRED


@pytest_twisted.ensureDeferred
async def test_expired_token_stays_refused_after_cleanup(cloud: SmallCloud, vm: Instance) -> None:
    token = await new_token(cloud, vm)
    change_session(cloud, token, token_expires=now() - timedelta(seconds=1))
    cloud.database.run_now(console_sessions.expire)
    assert await refusal(authorize(cloud, token)) is ConsoleRefusal.TOKEN_EXPIRED


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("token", ["", "x", "A" * 43, "' OR 1=1 --", "ü" * 100])
async def test_unknown_token_is_refused(cloud: SmallCloud, vm: Instance, token: str) -> None:
    await new_token(cloud, vm)
    assert await refusal(authorize(cloud, token)) is ConsoleRefusal.TOKEN_UNKNOWN


@pytest_twisted.ensureDeferred
async def test_other_cpvm_cannot_examine_or_spend_a_token(
    cloud: SmallCloud, vm: Instance, other_proxy: Instance
) -> None:
    token = await new_token(cloud, vm)
    assert await refusal(authorize(cloud, token, other_proxy)) is ConsoleRefusal.TOKEN_UNKNOWN
    assert (await authorize(cloud, token)).virtual_machine_id == vm.uuid
    assert await refusal(authorize(cloud, token, other_proxy)) is ConsoleRefusal.TOKEN_UNKNOWN


@pytest_twisted.ensureDeferred
async def test_stopped_machine_spends_no_token(cloud: SmallCloud, vm: Instance) -> None:
    token = await new_token(cloud, vm)
    cloud.update_instance(vm, state=InstanceState.STOPPING)
    assert await refusal(authorize(cloud, token)) is ConsoleRefusal.MACHINE_STOPPING
    cloud.update_instance(vm, state=InstanceState.RUNNING)
    assert (await authorize(cloud, token)).virtual_machine_id == vm.uuid


@pytest_twisted.ensureDeferred
async def test_a_token_of_a_destroyed_machine_is_refused(cloud: SmallCloud, vm: Instance) -> None:
    token = await new_token(cloud, vm)
    cloud.database.run_now(instances.remove, vm.id, InstanceState.EXPUNGING)
    assert await refusal(authorize(cloud, token)) is ConsoleRefusal.MACHINE_GONE


@pytest_twisted.ensureDeferred
async def test_each_token_opens_its_own_machine(cloud: SmallCloud, vm: Instance) -> None:
    other = add_vm(cloud, "two", 5902)
    first, second = await new_token(cloud, vm), await new_token(cloud, other)
    one, two = await authorize(cloud, first), await authorize(cloud, second)
    assert ((await target(cloud, one.session_id)).port, (await target(cloud, two.session_id)).port) == (
        5901,
        5902,
    )


@pytest_twisted.ensureDeferred
async def test_ssvm_cannot_authorize_consoles(cloud: SmallCloud, vm: Instance) -> None:
    token = await new_token(cloud, vm)
    with pytest.raises(RpcError) as refused:
        await authorize(cloud, token, cloud.ssvm)
    assert refused.value.code == FORBIDDEN
    assert await authorize(cloud, token)


@pytest_twisted.ensureDeferred
async def test_authorization_without_a_token_is_invalid(cloud: SmallCloud) -> None:
    with pytest.raises(RpcError) as refused:
        await cloud.from_agent(cloud.cpvm, console.CONSOLE_AUTHORIZE, {"client_address": "x"})
    assert refused.value.code == INVALID_PARAMS


# --- targets


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


# --- ends and load


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


@pytest_twisted.ensureDeferred
async def test_tokens_and_passwords_are_not_logged(cloud: SmallCloud, vm: Instance) -> None:
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(cast(ILogObserver, events.append))
    try:
        token = await new_token(cloud, vm)
        session = await authorize(cloud, token)
        await refusal(authorize(cloud, token))
        await target(cloud, session.session_id)
    finally:
        globalLogPublisher.removeObserver(cast(ILogObserver, events.append))
    assert events, "user and console are logged"
    assert token not in repr(events)
    assert "pw-5901" not in repr(events)


@pytest_twisted.ensureDeferred
async def test_the_session_shows_the_machines_display_name(cloud: SmallCloud, vm: Instance) -> None:
    assert (await authorize(cloud, await new_token(cloud, vm))).display_name == "one"
    cloud.update_instance(vm, display_name="Ulla's first machine")
    assert (await authorize(cloud, await new_token(cloud, vm))).display_name == "Ulla's first machine"
