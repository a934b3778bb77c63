# SPDX-License-Identifier: Apache-2.0
"""Sessions of logged-in users: their secrets, limits and ends."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted
import sqlalchemy as sa
from attrs import evolve

from small_cloud import SmallCloud
from small_cloud.rows import ADMIN_PASSWORD, API_KEY, HASHER, SECRET_KEY, USER_PASSWORD
from systemvm.management.api.authentication import Authenticator
from systemvm.management.api.principal import Principal
from systemvm.management.api.sessions import (
    EXTEND_EVERY,
    IDLE_LIMIT,
    TOTAL_LIMIT,
    OpenedSession,
    Sessions,
    digest,
)
from systemvm.management.state import accounts, schema, sessions
from systemvm.management.state.columns import now


async def open_session(store: Sessions, principal: Principal) -> OpenedSession:
    opened = await store.open(principal, "192.0.2.1")
    assert opened is not None
    return opened


def change_session(cloud: SmallCloud, **changes: Any) -> None:
    cloud.database.run_now(sessions.rows.update_where, **changes)


def executed_statements(cloud: SmallCloud) -> list[str]:
    """Return a list to which each query and each change from now on is added."""
    statements: list[str] = []

    def executed(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            statements.append(statement)

    sa.event.listen(cloud.database.engine, "after_cursor_execute", executed)
    return statements


@pytest_twisted.ensureDeferred
async def test_session_is_found_only_by_both_secrets(cloud: SmallCloud) -> None:
    store = Sessions(cloud.database)
    opened = await open_session(store, cloud.user)
    found = await store.find(opened.cookie, opened.session_key)
    assert found is not None
    assert found.login_uuid is not None
    assert evolve(found, login_uuid=None) == cloud.user
    assert await store.find(opened.cookie, "x") is None
    assert await store.find("x", opened.session_key) is None
    assert await store.find(opened.session_key, opened.cookie) is None


@pytest_twisted.ensureDeferred
async def test_copied_database_does_not_open_a_session(cloud: SmallCloud) -> None:
    opened = await open_session(Sessions(cloud.database), cloud.user)
    files = b"".join(path.read_bytes() for path in cloud.primary.directory.glob("systemvm.sqlite*"))
    assert opened.cookie.encode() not in files
    assert opened.session_key.encode() not in files
    assert digest(opened.cookie).encode() in files
    assert opened.cookie not in repr(opened)


@pytest_twisted.ensureDeferred
async def test_idle_session_ends_and_a_used_one_continues(cloud: SmallCloud) -> None:
    store = Sessions(cloud.database)
    opened = await open_session(store, cloud.user)
    change_session(cloud, last_used=now() - timedelta(minutes=5), expires=now() + timedelta(seconds=5))
    assert await store.find(opened.cookie, opened.session_key)
    [row] = cloud.database.run_now(sessions.rows.all)
    assert row.expires > now() + IDLE_LIMIT - timedelta(seconds=5)
    change_session(cloud, expires=now())
    assert await store.find(opened.cookie, opened.session_key) is None


@pytest_twisted.ensureDeferred
async def test_a_session_is_found_again_without_a_query(cloud: SmallCloud) -> None:
    store = Sessions(cloud.database)
    opened = await open_session(store, cloud.user)
    statements = executed_statements(cloud)
    first = await store.find(opened.cookie, opened.session_key)
    assert [statement for statement in statements if "FROM sessions" in statement]
    statements.clear()
    assert await store.find(opened.cookie, opened.session_key) == first
    assert await store.find(opened.cookie, "x") is None
    assert statements == []
    await store.end(opened.cookie)
    assert await store.find(opened.cookie, opened.session_key) is None


@pytest_twisted.ensureDeferred
async def test_calls_side_by_side_extend_a_session_once(cloud: SmallCloud) -> None:
    store = Sessions(cloud.database)
    opened = await open_session(store, cloud.user)
    change_session(cloud, last_used=now() - 2 * EXTEND_EVERY)
    [row] = cloud.database.run_now(sessions.rows.all)
    limits = {"unused_since": now() - EXTEND_EVERY}
    cloud.database.run_now(sessions.extend, row.id, now() + IDLE_LIMIT, **limits)
    [extended] = cloud.database.run_now(sessions.rows.all)
    cloud.database.run_now(sessions.extend, row.id, now() + 2 * IDLE_LIMIT, **limits)
    assert cloud.database.run_now(sessions.rows.all) == [extended]
    assert extended.last_used > row.last_used
    statements = executed_statements(cloud)
    assert await store.find(opened.cookie, opened.session_key)
    assert not [statement for statement in statements if statement.startswith("UPDATE")]


@pytest_twisted.ensureDeferred
async def test_session_has_a_total_limit(cloud: SmallCloud) -> None:
    store = Sessions(cloud.database)
    opened = await open_session(store, cloud.user)
    change_session(cloud, created=now() - TOTAL_LIMIT - timedelta(seconds=1))
    assert await store.find(opened.cookie, opened.session_key) is None


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("table", [schema.users, schema.accounts])
async def test_disabled_user_loses_access_at_once(cloud: SmallCloud, table: Any) -> None:
    store, directory = Sessions(cloud.database), Authenticator(cloud.database, cloud.seal, HASHER)
    opened = await open_session(store, cloud.admin)
    cloud.database.run_now(lambda connection: connection.execute(table.update().values(state="disabled")))
    assert await store.find(opened.cookie, opened.session_key) is None
    assert await directory.by_password("admin", ADMIN_PASSWORD, "/") is None
    assert await directory.by_api_key(API_KEY) is None


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("domain", "found"), [("/", True), ("ROOT", True), ("/ROOT", True), ("", True), ("/other", False)]
)
async def test_user_is_looked_up_in_its_domain(cloud: SmallCloud, domain: str, found: bool) -> None:
    directory = Authenticator(cloud.database, cloud.seal, HASHER)
    assert bool(await directory.by_password("ulla", USER_PASSWORD, domain)) is found


@pytest_twisted.ensureDeferred
async def test_a_new_api_key_ends_the_old_one(cloud: SmallCloud) -> None:
    directory = Authenticator(cloud.database, cloud.seal, HASHER)
    assert await directory.by_api_key(API_KEY) == (cloud.admin, SECRET_KEY)
    cloud.database.run_now(accounts.add_api_key, cloud.admin.user.id, "new", cloud.seal.close("s"))
    assert await directory.by_api_key(API_KEY) is None
    assert await directory.by_api_key("new") == (cloud.admin, "s")


@pytest_twisted.ensureDeferred
async def test_operator_is_the_first_administrator_with_a_password(cloud: SmallCloud) -> None:
    operator = await Authenticator(cloud.database, cloud.seal, HASHER).operator()
    assert operator.user.username == "admin", "the system account has no password"
