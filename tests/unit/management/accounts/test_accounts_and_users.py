# SPDX-License-Identifier: Apache-2.0
"""Accounts and users are created, listed and changed only with permission."""

from __future__ import annotations

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.management.accounts.errors import AccountError
from systemvm.management.api.errors import ApiError
from systemvm.management.state.rows import NotFoundError
from user_accounts import PASSWORD, PERSON, error_of, log_in, new_account
from user_vms import deploy_running


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
    vm = await deploy_running(cloud, ada)
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
    with pytest.raises(AccountError, match="account: admin already exists") as refused:
        await cloud.call("updateAccount", account="ada", newname="admin")
    assert refused.value.parameter == "newname"
    names = {row["name"] for row in (await cloud.call("listAccounts"))["account"]}
    assert "other" not in names, "the account is not created without its user"
    with pytest.raises(NotFoundError, match="no account named"):
        await cloud.call("createUser", username="x", account="nobody", **PERSON)
    with pytest.raises(AccountError, match="system account"):
        await cloud.call("createUser", username="x", account="system", **PERSON)
    with pytest.raises(ApiError, match="accounttype=3 is not supported"):
        await cloud.call("createAccount", username="x", accounttype=3, **PERSON)


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
        "lockUser",
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
    users = (await cloud.call("listUsers", listall="true"))["user"]
    assert "ada" in {row["username"] for row in users}
    assert "system" not in {row["username"] for row in users}
    assert not any("password" in key or "secret" in key for row in users for key in row)


@pytest_twisted.ensureDeferred
async def test_the_root_domain_is_listed(cloud: SmallCloud) -> None:
    [root] = (await cloud.call("listDomains", cloud.user))["domain"]
    assert (root["name"], root["path"], root["level"], root["haschild"]) == ("ROOT", "ROOT", 0, False)
