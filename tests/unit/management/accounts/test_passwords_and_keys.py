# SPDX-License-Identifier: Apache-2.0
"""Passwords, names and API keys of users, and the logins that end with a change."""

from __future__ import annotations

import pytest
import pytest_twisted
from attrs import evolve

from small_cloud import SmallCloud
from small_cloud.rows import ADMIN_PASSWORD, HASHER, USER_PASSWORD
from systemvm.management.accounts.errors import AccountError
from systemvm.management.api.authentication import Authenticator
from systemvm.management.api.sessions import Sessions
from user_accounts import PASSWORD, error_of, log_in, new_account, open_session, session_is_open


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
async def test_administrator_needs_the_current_password_only_for_the_own_one(cloud: SmallCloud) -> None:
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
