# SPDX-License-Identifier: Apache-2.0
"""Power actions of a console: with the rights that its user has now, as jobs of this user."""

from __future__ import annotations

from typing import Any

import pytest_twisted

from console_tokens import authorize, change_session, new_token, refusal
from small_cloud import SmallCloud
from systemvm.management.state import accounts, console_sessions, events, instances, jobs
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import AccountType, InstanceState
from systemvm.wire.console import CONSOLE_POWER, ConsoleRefusal, MachinePower, PowerAction

RUNNING = [PowerAction.REBOOT, PowerAction.STOP, PowerAction.RESET, PowerAction.TURN_OFF]


async def power(
    cloud: SmallCloud, session_id: str, action: PowerAction | None = None, by: Instance | None = None
) -> MachinePower:
    params: dict[str, Any] = {"session_id": session_id, "request_id": "r-7", "client_address": "198.51.100.9"}
    if action is not None:
        params["action"] = action.value
    answer = await cloud.from_agent(by or cloud.cpvm, CONSOLE_POWER, params)
    assert isinstance(answer, MachinePower)
    return answer


@pytest_twisted.ensureDeferred
async def test_the_actions_follow_the_state(cloud: SmallCloud, vm: Instance) -> None:
    session = await authorize(cloud, await new_token(cloud, vm))
    for state, actions in (
        (InstanceState.RUNNING, RUNNING),
        (InstanceState.STOPPED, [PowerAction.START]),
        (InstanceState.STOPPING, [PowerAction.TURN_OFF]),
        (InstanceState.STARTING, []),
    ):
        cloud.update_instance(vm, state=state)
        assert await power(cloud, session.session_id) == MachinePower(state.value, actions)


@pytest_twisted.ensureDeferred
async def test_an_action_is_a_job_of_the_sessions_user(cloud: SmallCloud, vm: Instance) -> None:
    session = await authorize(cloud, await new_token(cloud, vm))
    await power(cloud, session.session_id, PowerAction.RESET)
    [job] = [one for one in cloud.database.run_now(jobs.list_all) if one.instance_uuid == vm.uuid]
    assert (job.command, job.arguments) == ("rebootVirtualMachine", {"id": vm.id, "forced": True})
    assert (job.user_id, job.account_id, job.request_id) == (
        cloud.user.user.id,
        cloud.user.account.id,
        "r-7",
    )
    recorded = [
        event for event in cloud.database.run_now(events.newest, 100) if event.type == "CONSOLE.POWER"
    ]
    assert [event.user_id for event in recorded] == [cloud.user.user.id]
    assert "198.51.100.9 asks for reset" in recorded[0].description


@pytest_twisted.ensureDeferred
async def test_what_the_state_does_not_permit_is_refused(cloud: SmallCloud, vm: Instance) -> None:
    session = await authorize(cloud, await new_token(cloud, vm))
    assert await refusal(power(cloud, session.session_id, PowerAction.START)) is ConsoleRefusal.POWER_REFUSED


@pytest_twisted.ensureDeferred
async def test_a_view_only_session_may_do_nothing(cloud: SmallCloud, vm: Instance) -> None:
    token = await new_token(cloud, vm)
    change_session(cloud, token, view_only=True)
    session = await authorize(cloud, token)
    assert (await power(cloud, session.session_id)).actions == []
    for action in PowerAction:
        assert await refusal(power(cloud, session.session_id, action)) is ConsoleRefusal.POWER_REFUSED


@pytest_twisted.ensureDeferred
async def test_a_domain_administrator_may_use_the_machines_beneath(cloud: SmallCloud, vm: Instance) -> None:
    session = await authorize(cloud, await new_token(cloud, vm))
    run, own = cloud.database.run_now, cloud.user.account
    other = run(accounts.create_account, "other", AccountType.USER, own.domain_id)
    cloud.update_instance(vm, account_id=other.id)
    assert (await power(cloud, session.session_id)).actions == []
    run(accounts.update_account, own.id, type=int(AccountType.DOMAIN_ADMIN))
    assert (await power(cloud, session.session_id)).actions == RUNNING
    cloud.update_instance(vm, account_id=cloud.admin.account.id)
    assert (await power(cloud, session.session_id)).actions == []


@pytest_twisted.ensureDeferred
async def test_a_role_denies_actions_of_the_console_too(cloud: SmallCloud, vm: Instance) -> None:
    session = await authorize(cloud, await new_token(cloud, vm))
    role = (await cloud.call("createRole", name="no reboots", type="User"))["role"]["id"]
    await cloud.call("createRolePermission", roleid=role, rule="stop*", permission="allow")
    await cloud.call("updateAccount", id=cloud.user.account.uuid, roleid=role)
    assert (await power(cloud, session.session_id)).actions == [PowerAction.STOP, PowerAction.TURN_OFF]
    reset = power(cloud, session.session_id, PowerAction.RESET)
    assert await refusal(reset) is ConsoleRefusal.POWER_REFUSED


@pytest_twisted.ensureDeferred
async def test_a_user_who_lost_the_right_may_do_nothing(cloud: SmallCloud, vm: Instance) -> None:
    """The session was open when the machine went to another account."""
    session = await authorize(cloud, await new_token(cloud, vm))
    cloud.database.run_now(instances.update, vm.id, account_id=cloud.admin.account.id)
    assert (await power(cloud, session.session_id)).actions == []
    assert await refusal(power(cloud, session.session_id, PowerAction.STOP)) is ConsoleRefusal.POWER_REFUSED


@pytest_twisted.ensureDeferred
async def test_a_disabled_user_may_do_nothing(cloud: SmallCloud, vm: Instance) -> None:
    session = await authorize(cloud, await new_token(cloud, vm))
    cloud.database.run_now(accounts.update_user, cloud.user.user.id, state=accounts.DISABLED)
    assert (await power(cloud, session.session_id)).actions == []


@pytest_twisted.ensureDeferred
async def test_system_vms_are_left_to_the_daemon(cloud: SmallCloud) -> None:
    system_vm = cloud.update_instance(cloud.ssvm, vnc_address="10.11.0.1", vnc_port=5950)
    answer = await cloud.call("createConsoleEndpoint", cloud.admin, virtualmachineid=system_vm.uuid)
    session = await authorize(cloud, answer["consoleendpoint"]["websocket"]["token"])
    assert (await power(cloud, session.session_id)).actions == []


@pytest_twisted.ensureDeferred
async def test_only_the_sessions_own_cpvm_is_answered(
    cloud: SmallCloud, vm: Instance, other_proxy: Instance
) -> None:
    session = await authorize(cloud, await new_token(cloud, vm))
    assert await refusal(power(cloud, session.session_id, None, other_proxy)) is ConsoleRefusal.SESSION_ENDED
    cloud.database.run_now(console_sessions.close, session.session_id, "closed")
    stop = power(cloud, session.session_id, PowerAction.STOP)
    assert await refusal(stop) is ConsoleRefusal.CLOSED
