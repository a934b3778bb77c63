# SPDX-License-Identifier: Apache-2.0
"""Further API keys: several of a user, each with an end and a scope, and no way out of the scope."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted

from present import present
from small_cloud import SmallCloud
from small_cloud.rows import HASHER
from systemvm.management.accounts.errors import AccountError
from systemvm.management.accounts.records import MAX_KEYS
from systemvm.management.api.authentication import Authenticator
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.api.principal import Principal
from systemvm.management.state import accounts
from systemvm.management.state.columns import now
from systemvm.service.errors import SystemVmError
from user_accounts import PERSON, error_of, new_account


async def new_key(cloud: SmallCloud, by: Principal | None = None, **parameters: Any) -> dict[str, Any]:
    return dict((await cloud.call("createUserKey", by, **{"name": "backup"} | parameters))["userkey"])


async def user_of(cloud: SmallCloud, key: dict[str, Any], **more: Any) -> Principal | None:
    found = await Authenticator(cloud.database, cloud.seal, HASHER, **more).by_api_key(key["apikey"])
    return found and found[0]


@pytest_twisted.ensureDeferred
async def test_a_user_has_several_keys_beside_the_registered_one(cloud: SmallCloud) -> None:
    first, second = await new_key(cloud, cloud.user), await new_key(cloud, cloud.user, name="other")
    registered = (await cloud.call("registerUserKeys", cloud.user, id=cloud.user.user.uuid))["userkeys"]
    await cloud.call("registerUserKeys", cloud.user, id=cloud.user.user.uuid)
    assert await user_of(cloud, registered) is None
    directory = Authenticator(cloud.database, cloud.seal, HASHER)
    for key in (first, second):
        principal, secret = present(await directory.by_api_key(key["apikey"]))
        assert (principal.user.id, secret) == (cloud.user.user.id, key["secretkey"])
    listed = (await cloud.call("listUserKeys", cloud.user))["userkey"]
    assert [row["name"] for row in listed] == ["backup", "other"]
    assert all("secretkey" not in row for row in listed)
    await cloud.call("deleteUserKey", cloud.user, id=first["id"])
    assert await user_of(cloud, first) is None
    assert await user_of(cloud, second) is not None
    for file in cloud.primary.directory.glob("systemvm.sqlite*"):
        assert second["secretkey"].encode() not in file.read_bytes()


@pytest_twisted.ensureDeferred
async def test_a_key_ends_when_it_expires(cloud: SmallCloud) -> None:
    moment = now()
    last = f"{moment + timedelta(hours=2):%Y-%m-%d %H:%M:%S}"
    key = await new_key(cloud, cloud.user, enddate=last)
    assert await user_of(cloud, key) is not None
    before, after = moment + timedelta(hours=1), moment + timedelta(hours=2, seconds=2)
    assert await user_of(cloud, key, clock=lambda: before) is not None
    assert await user_of(cloud, key, clock=lambda: after) is None
    with pytest.raises(ApiError, match="is in the past"):
        await new_key(cloud, cloud.user, name="late", enddate="2020-01-01")


@pytest_twisted.ensureDeferred
async def test_a_key_ends_with_its_user(cloud: SmallCloud) -> None:
    ada = await new_account(cloud)
    key = await new_key(cloud, ada)
    await cloud.job("disableUser", id=ada.user.uuid)
    assert await user_of(cloud, key) is None
    await cloud.call("enableUser", id=ada.user.uuid)
    assert await user_of(cloud, key) is not None
    await cloud.call("deleteUser", id=ada.user.uuid)
    assert await user_of(cloud, key) is None


@pytest_twisted.ensureDeferred
async def test_a_scope_permits_what_it_names_only(cloud: SmallCloud) -> None:
    limited = present(await user_of(cloud, await new_key(cloud, cloud.user, rules="list*,createVolume")))
    await cloud.call("listVirtualMachines", limited)
    await cloud.call("createVolume", limited, size=1)
    for command in ("deleteVolume", "createUserKey", "listHosts"):  # hosts are for administrators
        error = await error_of(cloud.call(command, limited, id=cloud.zone.uuid))
        assert error.code is ErrorCode.UNSUPPORTED, command


@pytest_twisted.ensureDeferred
async def test_there_is_no_way_out_of_a_scope(cloud: SmallCloud) -> None:
    scope = "*User*,*Account*,*Role*"
    limited = present(await user_of(cloud, await new_key(cloud, rules=scope)))
    own = cloud.admin.user.uuid
    refused: list[tuple[str, dict[str, Any]]] = [
        ("createUserKey", {"name": "x"}),
        ("createUserKey", {"name": "x", "userid": cloud.user.user.uuid}),
        ("listUserKeys", {}),
        ("getUserKeys", {"id": own}),
        ("registerUserKeys", {"id": own}),
        ("updateUser", {"id": own, "password": "x"}),
        ("createUser", {"username": "x", "account": "admin"} | PERSON),
        ("createAccount", {"username": "x", "accounttype": 1} | PERSON),
        ("createRole", {"name": "x", "type": "Admin"}),
    ]
    for command, parameters in refused:
        error = await error_of(cloud.call(command, limited, **parameters))
        assert error.code is ErrorCode.UNAUTHORIZED, (command, error.message)


@pytest_twisted.ensureDeferred
async def test_users_reach_only_their_own_keys(cloud: SmallCloud) -> None:
    key, other = await new_key(cloud), cloud.admin.user.uuid
    for command, parameters in (
        ("createUserKey", {"name": "x", "userid": other}),
        ("listUserKeys", {"userid": other}),
        ("deleteUserKey", {"id": key["id"]}),
    ):
        error = await error_of(cloud.call(command, cloud.user, **parameters))
        assert error.code is ErrorCode.UNAUTHORIZED, command
    assert (await new_key(cloud, userid=cloud.user.user.uuid))["username"] == "ulla"


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_is_refused(cloud: SmallCloud) -> None:
    await new_key(cloud)
    refused: list[tuple[dict[str, Any], str]] = [
        ({}, "already exists"),
        ({"name": "x" * 256}, "1 to 255"),
        ({"name": "x", "rules": "list.*"}, "patterns of letters"),
        ({"name": "x", "rules": ",".join(["a"] * 101)}, "1 to 100"),
        ({"name": "x", "enddate": "tomorrow"}, "enddate"),
    ]
    for parameters, message in refused:
        with pytest.raises(SystemVmError, match=message):
            await new_key(cloud, **parameters)
    registered = present(cloud.database.run_now(accounts.api_key_of, cloud.admin.user.id))
    with pytest.raises(ApiError, match="made by registerUserKeys"):
        await cloud.call("deleteUserKey", id=registered.uuid)
    for number in range(MAX_KEYS - 1):
        await new_key(cloud, name=f"key {number}")
    with pytest.raises(AccountError, match="too many API keys"):
        await new_key(cloud, name="one more")
