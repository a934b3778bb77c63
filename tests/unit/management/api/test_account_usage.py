# SPDX-License-Identifier: Apache-2.0
"""What accounts use: stored bytes, bytes that SSVMs report as served, minutes of consoles."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from api_requests import refusal
from console_tokens import add_vm, change_session, new_token
from settling import settled
from small_cloud import SmallCloud
from systemvm.management.api.errors import ErrorCode
from systemvm.management.state import templates
from systemvm.management.state.columns import now
from systemvm.management.templates.served_usage import INTERVAL_S, ServedUsage
from systemvm.rpc.core.errors import NOT_CONNECTED, RpcError
from systemvm.wire.extract import EXTRACT_SERVED, AccountBytes, ServedBytes


async def used(cloud: SmallCloud, as_user: Any = None, **which: str) -> dict[str, tuple[int, int, int]]:
    rows = (await cloud.call("listAccountUsage", as_user, **which)).get("accountusage", [])
    return {row["account"]: (row["storedbytes"], row["servedbytes"], row["consoleminutes"]) for row in rows}


async def report(cloud: SmallCloud, instance: str, *counted: tuple[int, int]) -> None:
    answer = ServedBytes(instance, [AccountBytes(*each) for each in counted])
    cloud.ssvm_peer.answers[EXTRACT_SERVED] = lambda _: answer
    collector = ServedUsage(Clock(), cloud.database, cloud.agents)
    await collector.collect()
    await collector.collected()


@pytest_twisted.ensureDeferred
async def test_every_ready_copy_is_stored(cloud: SmallCloud) -> None:
    for owner, size_bytes in ((cloud.user, 1000), (cloud.user, 300), (cloud.admin, 7)):
        _, ref = cloud.add_template(owner=owner)
        cloud.database.run_now(templates.update_store_ref, ref.id, physical_size_bytes=size_bytes)
    assert await used(cloud, cloud.user) == {"users": (1300, 0, 0)}
    cloud.database.run_now(templates.update_store_ref, ref.id, removed=now())
    assert (await used(cloud, listall="true"))["admin"] == (0, 0, 0)


@pytest_twisted.ensureDeferred
async def test_a_report_counts_once_and_a_new_process_begins_at_zero(cloud: SmallCloud) -> None:
    user, nobody = cloud.user.account.id, 4711
    for _ in range(2):
        await report(cloud, "one", (user, 500), (nobody, 9))
    assert (await used(cloud, cloud.user))["users"][1] == 500
    await report(cloud, "one", (user, 800))
    await report(cloud, "", (user, 1))  # no process runs
    assert (await used(cloud, cloud.user))["users"][1] == 800
    await report(cloud, "two", (user, 100))
    await report(cloud, "three", (user, 20))
    await report(cloud, "three", (user, 30))
    assert (await used(cloud, cloud.user))["users"][1] == 800 + 100 + 30


@pytest_twisted.ensureDeferred
async def test_an_ssvm_that_does_not_answer_does_not_stop_the_others(cloud: SmallCloud) -> None:
    clock = Clock()
    collector = ServedUsage(clock, cloud.database, cloud.agents)
    collector.start()
    cloud.ssvm_peer.answers[EXTRACT_SERVED] = lambda _: RpcError(NOT_CONNECTED, "gone")
    clock.advance(INTERVAL_S)
    await settled(cloud.database)
    counted = ServedBytes("one", [AccountBytes(cloud.user.account.id, 5)])
    cloud.ssvm_peer.answers[EXTRACT_SERVED] = lambda _: counted
    clock.advance(INTERVAL_S)
    await settled(cloud.database)
    collector.stop()
    assert (await used(cloud, cloud.user))["users"][1] == 5


@pytest_twisted.ensureDeferred
async def test_minutes_of_consoles_count_from_the_token_to_the_end(cloud: SmallCloud) -> None:
    vm, moment = add_vm(cloud, "web", 5901), now()
    ended, open_, unused = [await new_token(cloud, vm) for _ in range(3)]
    assert unused
    begun = moment - timedelta(minutes=30)
    change_session(cloud, ended, acquired=begun, removed=begun + timedelta(minutes=12))
    change_session(cloud, open_, acquired=moment - timedelta(minutes=5))
    assert (await used(cloud, cloud.user))["users"][2] == 17
    change_session(cloud, open_, watches="00000000-0000-4000-8000-000000000000")
    assert (await used(cloud, cloud.user))["users"][2] == 12


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ({}, {"admin"}),
        ({"listall": "true"}, {"system", "admin", "users"}),
        ({"listall": "true", "keyword": "user"}, {"users"}),
        ({"account": "users"}, {"users"}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_administrators_see_all_accounts(
    cloud: SmallCloud, which: dict[str, str], expected: set[str]
) -> None:
    assert set(await used(cloud, **which)) == expected


@pytest_twisted.ensureDeferred
async def test_users_see_their_own_account_only(cloud: SmallCloud) -> None:
    assert set(await used(cloud, cloud.user, listall="true")) == {"users"}
    error = await refusal(cloud, "listAccountUsage", cloud.user, account="admin")
    assert error.code is ErrorCode.UNAUTHORIZED
