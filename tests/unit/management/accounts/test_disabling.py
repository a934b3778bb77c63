# SPDX-License-Identifier: Apache-2.0
"""Disabled and locked accounts and users lose logins, keys, consoles and machines."""

from __future__ import annotations

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from small_cloud.agents import FakePeer
from small_cloud.rows import ADMIN_PASSWORD, HASHER
from systemvm.management.accounts import records
from systemvm.management.accounts.errors import AccountError
from systemvm.management.api.authentication import Authenticator
from systemvm.management.state import accounts
from systemvm.management.state.status import InstanceState
from systemvm.management.virtual_machines.errors import NotDeployableError
from systemvm.wire import console
from systemvm.wire.role import Role
from unfinished_job import begins, resume, start_unfinished
from user_accounts import PASSWORD, log_in, new_account, open_session, session_is_open
from user_vms import deploy_running


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("command", ["disableUser", "lockUser", "disableAccount", "lock", "deleteUser"])
async def test_disabled_user_loses_access_at_once(cloud: SmallCloud, command: str) -> None:
    ada = await new_account(cloud)
    keys = (await cloud.call("registerUserKeys", ada, id=ada.user.uuid))["userkeys"]
    session = await open_session(cloud, ada)
    vm = await deploy_running(cloud, ada)
    cloud.update_instance(vm, vnc_address="10.11.0.1", vnc_port=5901)
    cpvm: FakePeer = cloud.agents.connect(cloud.cpvm.instance_name, Role.CPVM)
    cpvm.answers[console.CONSOLE_END] = lambda _: None
    endpoint = (await cloud.call("createConsoleEndpoint", ada, virtualmachineid=vm.uuid))["consoleendpoint"]
    params = {"token": endpoint["websocket"]["token"], "client_address": "198.51.100.9", "request_id": "r"}
    opened = await cloud.from_agent(cloud.cpvm, console.CONSOLE_AUTHORIZE, params)

    if command == "deleteUser":
        assert (await cloud.call("deleteUser", id=ada.user.uuid))["success"]
    elif command == "lockUser":
        assert (await cloud.call("lockUser", id=ada.user.uuid))["user"]["state"] == "locked"
    elif command == "disableUser":
        job = await cloud.job("disableUser", id=ada.user.uuid)
        assert job.result["user"]["state"] == "disabled"
    else:
        job = await cloud.job("disableAccount", id=ada.account.uuid, lock=str(command == "lock").lower())
        assert job.result["account"]["state"] == ("locked" if command == "lock" else "disabled")
    assert await log_in(cloud, "ada", PASSWORD) is None
    assert not await session_is_open(cloud, session)
    assert await Authenticator(cloud.database, cloud.seal, HASHER).by_api_key(keys["apikey"]) is None
    [end] = cpvm.params_of(console.CONSOLE_END)
    assert (end.session_ids, end.code) == ([opened.session_id], "access_revoked")
    stopped = cloud.instance(vm.id).state is InstanceState.STOPPED
    assert stopped is (command == "disableAccount")

    if command == "deleteUser":
        return
    if command in ("disableUser", "lockUser"):
        await cloud.call("enableUser", id=ada.user.uuid)
    else:
        await cloud.call("enableAccount", account="ada")
    assert await log_in(cloud, "ada", PASSWORD)
    assert not await session_is_open(cloud, session), "a session that ended stays ended"


@pytest_twisted.ensureDeferred
async def test_machines_of_a_disabled_account_cannot_be_created_or_started(cloud: SmallCloud) -> None:
    """Neither by a job that was accepted before, nor by an administrator."""
    ada = await new_account(cloud)
    running, stopped = await deploy_running(cloud, ada), await deploy_running(cloud, ada)
    await cloud.machines.stop(stopped.id)
    await cloud.account_service.disable_account(ada.account.id, lock=False)
    for vm in (running, stopped):
        job = await cloud.job("startVirtualMachine", id=vm.uuid)
        assert (job.result_code, job.result["errortext"]) == (431, f"The owner of {vm.name} is disabled: ada")
        assert cloud.instance(vm.id).state is InstanceState.STOPPED
    with pytest.raises(NotDeployableError, match="The owner of vm to deploy is disabled: ada"):
        await deploy_running(cloud, ada)
    await cloud.account_service.disable_account(ada.account.id, lock=True)
    assert (await cloud.machines.start(stopped.id)).state is InstanceState.RUNNING, "not for a locked account"


@pytest_twisted.ensureDeferred
async def test_a_machine_that_a_killed_daemon_was_stopping_is_stopped(cloud: SmallCloud) -> None:
    ada = await new_account(cloud)
    vm = await deploy_running(cloud, ada)
    cloud.update_instance(vm, state=InstanceState.STOPPING)
    await cloud.account_service.disable_account(ada.account.id, lock=False)
    assert cloud.instance(vm.id).state is InstanceState.STOPPED


@pytest_twisted.ensureDeferred
async def test_last_administrator_cannot_be_removed(cloud: SmallCloud) -> None:
    admin = cloud.admin
    for at_once in ("deleteUser", "lockUser"):
        with pytest.raises(AccountError, match="last root administrator"):
            await cloud.call(at_once, id=admin.user.uuid)
    for command, uuid, more in [
        ("disableUser", admin.user.uuid, {}),
        ("disableAccount", admin.account.uuid, {"lock": "true"}),
        ("deleteAccount", admin.account.uuid, {}),
    ]:
        job = await cloud.job(command, id=uuid, **more)
        assert (job.result_code, "last root administrator" in job.result["errortext"]) == (431, True)
    assert await log_in(cloud, "admin", ADMIN_PASSWORD)
    root2 = await new_account(cloud, "root2", accounttype=1)
    assert (await cloud.job("disableUser", root2, id=admin.user.uuid)).result_code == 0


@pytest_twisted.ensureDeferred
async def test_a_job_that_is_resumed_does_not_disable_who_was_enabled_since(cloud: SmallCloud) -> None:
    ada = await new_account(cloud)
    vm = await deploy_running(cloud, ada)
    disable = start_unfinished(cloud, "disableAccount", id=ada.account.id, lock=False)
    await cloud.account_service.disable_account(ada.account.id, lock=False, begins=begins(disable))
    disable_user = start_unfinished(cloud, "disableUser", id=ada.user.id)
    await cloud.account_service.disable_user(ada.user.id, begins(disable_user))
    await cloud.call("enableAccount", id=ada.account.uuid)
    await cloud.call("enableUser", id=ada.user.uuid)
    await cloud.machines.start(vm.id)
    for job in (disable, disable_user):
        assert (await resume(cloud, job)).result_code == 0
    account = cloud.database.run_now(accounts.account_by_id, ada.account.id)
    user = cloud.database.run_now(accounts.user_by_id, ada.user.id)
    assert (account.state, user.state) == (accounts.ENABLED, accounts.ENABLED)
    assert cloud.instance(vm.id).state is InstanceState.RUNNING


@pytest_twisted.ensureDeferred
async def test_a_job_that_is_resumed_completes_what_it_has_begun(cloud: SmallCloud) -> None:
    ada = await new_account(cloud)
    vm = await deploy_running(cloud, ada)
    job = start_unfinished(cloud, "disableAccount", id=ada.account.id, lock=False)
    cloud.database.run_now(records.disable_account, ada.account.id, accounts.DISABLED, begins(job))
    assert (await resume(cloud, job)).result_code == 0
    assert cloud.database.run_now(accounts.account_by_id, ada.account.id).state == accounts.DISABLED
    assert cloud.instance(vm.id).state is InstanceState.STOPPED
