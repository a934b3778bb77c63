# SPDX-License-Identifier: Apache-2.0
"""Accounts and users for tests: created by the API, and logged in."""

from __future__ import annotations

from typing import Any

import pytest

from small_cloud import SmallCloud
from small_cloud.rows import HASHER
from systemvm.management.api.authentication import Authenticator
from systemvm.management.api.errors import ApiError
from systemvm.management.api.principal import Principal
from systemvm.management.api.sessions import OpenedSession, Sessions

PASSWORD = "the first password"
PERSON = {"firstname": "Ada", "lastname": "L", "email": "ada@example.test", "password": PASSWORD}


async def log_in(cloud: SmallCloud, username: str, password: str, domain: str = "/") -> Principal | None:
    return await Authenticator(cloud.database, cloud.seal, HASHER).by_password(username, password, domain)


async def new_account(cloud: SmallCloud, name: str = "ada", **more: Any) -> Principal:
    answer = await cloud.call("createAccount", username=name, **PERSON, **more)
    assert answer["account"]["user"][0]["username"] == name
    principal = await log_in(cloud, name, PASSWORD, answer["account"]["domainpath"])
    assert principal is not None
    return principal


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
