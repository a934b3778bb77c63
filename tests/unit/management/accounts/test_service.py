# SPDX-License-Identifier: Apache-2.0
"""Commands about accounts and users: permissions, passwords, keys, disabling and deletion."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from attrs import evolve

from present import present
from small_cloud import SmallCloud
from small_cloud_fakes import FakePeer
from small_cloud_rows import ADMIN_PASSWORD, HASHER, USER_PASSWORD
from systemvm.management.accounts.errors import AccountError
from systemvm.management.api.authentication import Authenticator
from systemvm.management.api.errors import ApiError
from systemvm.management.api.principal import Principal
from systemvm.management.api.sessions import OpenedSession, Sessions
from systemvm.management.state import accounts, instances, templates, volumes
from systemvm.management.state.instances import Instance
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import InstanceState
from systemvm.management.virtual_machines.deployment import Deployment
from systemvm.management.virtual_machines.errors import NotDeployableError
from systemvm.wire import console
from systemvm.wire.role import Role
from systemvm.wire.storage import ImageFormat

PASSWORD = "the first password"
PERSON = {"firstname": "Ada", "lastname": "L", "email": "ada@example.test", "password": PASSWORD}


async def log_in(cloud: SmallCloud, username: str, password: str) -> Principal | None:
    return await Authenticator(cloud.database, cloud.seal, HASHER).by_password(username, password, "/")


async def new_account(cloud: SmallCloud, name: str = "ada", **more: Any) -> Principal:
    answer = await cloud.call("createAccount", username=name, **PERSON, **more)
    assert answer["account"]["user"][0]["username"] == name
    principal = await log_in(cloud, name, PASSWORD)
    assert principal is not None
    return principal


async def deployed(cloud: SmallCloud, owner: Principal, template: Any = None) -> Instance:
    vm = await cloud.machines.deploy(
        Deployment(
            template_id=(template or cloud.add_template()[0]).id,
            zone_id=cloud.zone.id,
            host_id=cloud.host.id,
            account_id=owner.account.id,
            domain_id=owner.domain.id,
            user_id=owner.user.id,
            vcpus=1,
            memory_mib=64,
            bridge="cloudbr3",
        )
    )
    return await cloud.machines.start(vm.id)


async def open_session(cloud: SmallCloud, principal: Principal) -> OpenedSession:
    opened = await Sessions(cloud.database).open(principal, "192.0.2.1")
    assert opened is not None
    return opened


async def session_is_open(cloud: SmallCloud, session: OpenedSession) -> bool:
    return await Sessions(cloud.database).find(session.cookie, session.session_key) is not None


async def error_of(awaitable: Any) -> ApiError:
    with pytest.raises(ApiError) as error:
        await awaitable
    return error.value


# --- making


@pytest_twisted.ensureDeferred
async def test_user_of_a_new_account_can_deploy(cloud: SmallCloud) -> None:
    ada = await new_account(cloud)
    assert (ada.account.name, ada.is_admin) == ("ada", False)
    [row] = (await cloud.call("listUsers", ada))["user"]
    assert (row["username"], row["email"], row["account"], row["roletype"]) == (
        "ada",
        "ada@example.test",
        "ada",
        "User",
    )
    vm = await deployed(cloud, ada)
    assert vm.account_id == ada.account.id
    [account] = (await cloud.call("listAccounts", ada))["account"]
    assert (account["vmtotal"], account["vmrunning"], account["vmstopped"]) == (1, 1, 0)
    stored = ada.user.password_hash
    assert stored is not None
    assert stored.startswith("$argon2id$")
    assert PASSWORD not in stored


@pytest_twisted.ensureDeferred
async def test_account_can_have_several_users_with_own_passwords(cloud: SmallCloud) -> None:
    await new_account(cloud)
    await cloud.call("createUser", username="eve", account="ada", **PERSON | {"password": "eve's own"})
    eve = await log_in(cloud, "eve", "eve's own")
    assert eve is not None
    assert eve.account.name == "ada"
    assert await log_in(cloud, "eve", PASSWORD) is None


@pytest_twisted.ensureDeferred
async def test_second_administrator_lists_all_accounts(cloud: SmallCloud) -> None:
    root = await new_account(cloud, "root2", accounttype=1)
    assert root.is_admin
    assert {row["name"] for row in (await cloud.call("listAccounts", root))["account"]} == {
        "admin",
        "users",
        "root2",
    }


@pytest_twisted.ensureDeferred
async def test_names_are_unique(cloud: SmallCloud) -> None:
    await new_account(cloud)
    for command, values, message in [
        ("createAccount", {"username": "other", "account": "ada"}, "account: ada already exists"),
        ("createAccount", {"username": "ada", "account": "other"}, "user ada already exists"),
        ("createUser", {"username": "admin", "account": "ada"}, "user admin already exists"),
    ]:
        with pytest.raises(AccountError, match=message):
            await cloud.call(command, **PERSON, **values)
    names = {row["name"] for row in (await cloud.call("listAccounts"))["account"]}
    assert "other" not in names, "the account is not created without its user"
    with pytest.raises(NotFoundError, match="no account named"):
        await cloud.call("createUser", username="x", account="nobody", **PERSON)
    with pytest.raises(AccountError, match="system account"):
        await cloud.call("createUser", username="x", account="system", **PERSON)
    with pytest.raises(ApiError, match="accounttype=2 is not supported"):
        await cloud.call("createAccount", username="x", accounttype=2, **PERSON)


# --- who may


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "command",
    [
        "createAccount",
        "createUser",
        "deleteAccount",
        "deleteUser",
        "disableAccount",
        "disableUser",
        "enableAccount",
        "enableUser",
        "getUser",
        "updateAccount",
    ],
)
async def test_users_cannot_administer_users(cloud: SmallCloud, command: str) -> None:
    error = await error_of(cloud.call(command, cloud.user, id=cloud.user.user.uuid, **PERSON))
    assert (error.code, "not available for user" in error.message) == (432, True)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("command", ["updateUser", "getUserKeys", "registerUserKeys"])
async def test_user_cannot_change_another_users_password_or_keys(cloud: SmallCloud, command: str) -> None:
    ada = await new_account(cloud)
    await cloud.call("createUser", username="eve", account="ada", **PERSON)
    eve = await log_in(cloud, "eve", PASSWORD)
    assert eve is not None
    for caller in (cloud.user, eve):  # of another account, and of the same one
        error = await error_of(cloud.call(command, caller, id=ada.user.uuid))
        assert error.code == 401


@pytest_twisted.ensureDeferred
async def test_users_see_only_their_own_account(cloud: SmallCloud) -> None:
    await new_account(cloud)
    for listall in ("true", "false"):
        rows = (await cloud.call("listUsers", cloud.user, listall=listall))["user"]
        assert {row["account"] for row in rows} == {"users"}
        rows = (await cloud.call("listAccounts", cloud.user, listall=listall))["account"]
        assert {row["name"] for row in rows} == {"users"}
    assert await cloud.call("listUsers", cloud.user, account="ada") == {}
    everybody = (await cloud.call("listUsers", listall="true"))["user"]
    assert "ada" in {row["username"] for row in everybody}
    assert "system" not in {row["username"] for row in everybody}
    assert not any("password" in key or "secret" in key for row in everybody for key in row)


@pytest_twisted.ensureDeferred
async def test_the_root_domain_is_listed(cloud: SmallCloud) -> None:
    [root] = (await cloud.call("listDomains", cloud.user))["domain"]
    assert (root["name"], root["path"], root["level"], root["haschild"]) == ("ROOT", "ROOT", 0, False)


# --- passwords


@pytest_twisted.ensureDeferred
async def test_own_new_password_needs_the_current_one(cloud: SmallCloud) -> None:
    mine = cloud.user.user.uuid
    error = await error_of(cloud.call("updateUser", cloud.user, id=mine, password="next"))
    assert "the current password must be provided" in error.message
    with pytest.raises(AccountError, match="Current password is incorrect"):
        await cloud.call("updateUser", cloud.user, id=mine, password="next", currentpassword="guess")
    assert await log_in(cloud, "ulla", USER_PASSWORD)
    await cloud.call("updateUser", cloud.user, id=mine, password="next", currentpassword=USER_PASSWORD)
    assert await log_in(cloud, "ulla", USER_PASSWORD) is None
    assert await log_in(cloud, "ulla", "next")


@pytest_twisted.ensureDeferred
async def test_administrator_needs_the_current_password_for_the_own_one_only(cloud: SmallCloud) -> None:
    await cloud.call("updateUser", id=cloud.user.user.uuid, password="reset")
    assert await log_in(cloud, "ulla", "reset")
    in_session = evolve(cloud.admin, login_uuid="login-1")
    mine = cloud.admin.user.uuid
    error = await error_of(cloud.call("updateUser", in_session, id=mine, password="next"))
    assert "current password" in error.message
    await cloud.call("updateUser", in_session, id=mine, password="next", currentpassword=ADMIN_PASSWORD)
    assert await log_in(cloud, "admin", "next")
    await cloud.call("updateUser", cloud.admin, id=mine, password="by the operator")
    assert await log_in(cloud, "admin", "by the operator")


@pytest_twisted.ensureDeferred
async def test_a_new_password_ends_other_logins(cloud: SmallCloud) -> None:
    mine, other = await open_session(cloud, cloud.user), await open_session(cloud, cloud.user)
    principal = await Sessions(cloud.database).find(mine.cookie, mine.session_key)
    values = {"id": cloud.user.user.uuid, "password": "next", "currentpassword": USER_PASSWORD}
    await cloud.call("updateUser", principal, **values)
    assert (await session_is_open(cloud, mine), await session_is_open(cloud, other)) == (True, False)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("change", ["password", "disabled", "deleted"])
async def test_login_during_a_password_change_ends_with_the_others(cloud: SmallCloud, change: str) -> None:
    ada = await new_account(cloud)
    authenticated = await log_in(cloud, "ada", PASSWORD)  # its session is not open yet
    assert authenticated is not None
    if change == "password":
        await cloud.call("updateUser", id=ada.user.uuid, password="next")
    elif change == "disabled":
        await cloud.job("disableUser", id=ada.user.uuid)
    else:
        await cloud.call("deleteUser", id=ada.user.uuid)
    assert await Sessions(cloud.database).open(authenticated, "192.0.2.1") is None


@pytest_twisted.ensureDeferred
async def test_a_user_changes_names_but_not_the_username(cloud: SmallCloud) -> None:
    mine = cloud.user.user.uuid
    changed = await cloud.call("updateUser", cloud.user, id=mine, firstname="U", email="u@example.test")
    assert (changed["user"]["firstname"], changed["user"]["email"]) == ("U", "u@example.test")
    error = await error_of(cloud.call("updateUser", cloud.user, id=mine, username="root"))
    assert error.code == 401
    await cloud.call("updateUser", id=mine, username="renamed")
    assert await log_in(cloud, "renamed", USER_PASSWORD)


# --- keys


@pytest_twisted.ensureDeferred
async def test_keys_are_rotated_and_the_old_ones_end(cloud: SmallCloud) -> None:
    ada = await new_account(cloud)
    directory = Authenticator(cloud.database, cloud.seal, HASHER)
    assert (await cloud.call("getUserKeys", ada, id=ada.user.uuid))["userkeys"] == {}
    first = (await cloud.call("registerUserKeys", ada, id=ada.user.uuid))["userkeys"]
    assert (await cloud.call("getUserKeys", id=ada.user.uuid))["userkeys"] == first
    found = await directory.by_api_key(first["apikey"])
    assert found is not None
    assert found[1] == first["secretkey"]
    second = (await cloud.call("registerUserKeys", ada, id=ada.user.uuid))["userkeys"]
    assert second["apikey"] != first["apikey"]
    assert await directory.by_api_key(first["apikey"]) is None
    assert await directory.by_api_key(second["apikey"]) is not None
    assert (await cloud.call("getUser", userapikey=second["apikey"]))["user"]["username"] == "ada"
    for file in cloud.primary.directory.glob("systemvm.sqlite*"):
        assert second["secretkey"].encode() not in file.read_bytes()


# --- disabling


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("command", ["disableUser", "disableAccount", "lock", "deleteUser"])
async def test_disabled_user_loses_access_at_once(cloud: SmallCloud, command: str) -> None:
    ada = await new_account(cloud)
    keys = (await cloud.call("registerUserKeys", ada, id=ada.user.uuid))["userkeys"]
    session = await open_session(cloud, ada)
    vm = await deployed(cloud, ada)
    cloud.update_instance(vm, vnc_address="10.11.0.1", vnc_port=5901)
    cpvm: FakePeer = cloud.agents.connect(cloud.cpvm.instance_name, Role.CPVM)
    cpvm.answers[console.CONSOLE_END] = lambda _: None
    endpoint = (await cloud.call("createConsoleEndpoint", ada, virtualmachineid=vm.uuid))["consoleendpoint"]
    params = {"token": endpoint["websocket"]["token"], "client_address": "198.51.100.9", "request_id": "r"}
    opened = await cloud.from_agent(cloud.cpvm, console.CONSOLE_AUTHORIZE, params)

    if command == "deleteUser":
        assert (await cloud.call("deleteUser", id=ada.user.uuid))["success"]
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
    if command == "disableUser":
        await cloud.call("enableUser", id=ada.user.uuid)
    else:
        await cloud.call("enableAccount", account="ada")
    assert await log_in(cloud, "ada", PASSWORD)
    assert not await session_is_open(cloud, session), "a session that ended stays ended"


@pytest_twisted.ensureDeferred
async def test_machines_of_a_disabled_account_cannot_be_created_or_started(cloud: SmallCloud) -> None:
    """Neither by a job that was accepted before, nor by an administrator."""
    ada = await new_account(cloud)
    running, stopped = await deployed(cloud, ada), await deployed(cloud, ada)
    await cloud.machines.stop(stopped.id)
    await cloud.account_service.disable_account(ada.account.id, lock=False)
    for vm in (running, stopped):
        job = await cloud.job("startVirtualMachine", id=vm.uuid)
        assert (job.result_code, job.result["errortext"]) == (431, f"The owner of {vm.name} is disabled: ada")
        assert cloud.instance(vm.id).state is InstanceState.STOPPED
    with pytest.raises(NotDeployableError, match="The owner of vm to deploy is disabled: ada"):
        await deployed(cloud, ada)
    await cloud.account_service.disable_account(ada.account.id, lock=True)
    assert (await cloud.machines.start(stopped.id)).state is InstanceState.RUNNING, "not for a locked account"


@pytest_twisted.ensureDeferred
async def test_last_administrator_cannot_be_removed(cloud: SmallCloud) -> None:
    admin = cloud.admin
    with pytest.raises(AccountError, match="last root administrator"):
        await cloud.call("deleteUser", id=admin.user.uuid)
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


# --- deleting


@pytest_twisted.ensureDeferred
async def test_deleted_account_leaves_only_history(cloud: SmallCloud) -> None:
    ada = await new_account(cloud)
    template, _ = cloud.add_template(owner=ada, public=True)
    mine, others = await deployed(cloud, ada, template), await deployed(cloud, cloud.user, template)
    destroyed = await deployed(cloud, ada)
    await cloud.machines.destroy(destroyed.id)
    disks = [cloud.database.run_now(volumes.root_of, vm.id) for vm in (mine, others)]
    assert (await cloud.job("deleteAccount", id=ada.account.uuid)).result == {"success": True}
    for vm in (mine, destroyed):
        assert cloud.instance(vm.id).removed is not None
    assert [cloud.primary.volume_path(present(disk).uuid).exists() for disk in disks] == [False, True]
    assert cloud.database.run_now(templates.by_id, template.id).removed is not None
    assert (await cloud.machines.start(others.id)).state is InstanceState.RUNNING
    assert "ada" not in {row["name"] for row in (await cloud.call("listAccounts"))["account"]}
    with pytest.raises(NotFoundError):
        await cloud.call("enableAccount", id=ada.account.uuid)
    again = await new_account(cloud)
    assert again.account.id != ada.account.id, "the name can be used again, the id cannot"


@pytest_twisted.ensureDeferred
async def test_interrupted_deletion_continues_after_a_restart(cloud: SmallCloud) -> None:
    ada = await new_account(cloud)
    vm = await deployed(cloud, ada)
    await cloud.account_service.disable_account(ada.account.id, lock=True)
    await cloud.machines.destroy(vm.id)
    await cloud.account_service.delete_account(ada.account.id)
    assert cloud.instance(vm.id).removed is not None
    assert cloud.database.run_now(accounts.account_by_id, ada.account.id).removed is not None
    await cloud.account_service.delete_account(ada.account.id)  # a repetition changes nothing


@pytest_twisted.ensureDeferred
async def test_iso_in_use_by_another_account_outlives_its_account(cloud: SmallCloud) -> None:
    ada = await new_account(cloud)
    iso, _ = cloud.add_template(owner=ada, public=True, format=ImageFormat.ISO)
    vm = await deployed(cloud, cloud.user, iso)
    assert (await cloud.job("deleteAccount", id=ada.account.uuid)).result_code == 0
    assert cloud.database.run_now(templates.by_id, iso.id).removed is None
    [row] = (await cloud.call("listIsos", isofilter="all"))["iso"]
    assert row["account"] == "ada"
    await cloud.machines.destroy(vm.id, expunge=True)
    assert (await cloud.job("deleteIso", id=iso.uuid)).result_code == 0


@pytest_twisted.ensureDeferred
async def test_machines_created_during_an_accounts_deletion_are_deleted(cloud: SmallCloud) -> None:
    ada = await new_account(cloud)
    first = await deployed(cloud, ada)
    destroy = cloud.machines.destroy
    made: list[Instance] = []

    async def destroy_slowly(vm_id: int, *, expunge: bool = False) -> Instance:
        if not made:
            await cloud.account_service.enable_account(ada.account.id)
            made.append(await deployed(cloud, ada))
        return await destroy(vm_id, expunge=expunge)

    cloud.machines.destroy = destroy_slowly  # type: ignore[method-assign]
    await cloud.account_service.delete_account(ada.account.id)
    for vm in (first, *made):
        assert cloud.database.run_now(instances.by_id, vm.id).removed is not None
