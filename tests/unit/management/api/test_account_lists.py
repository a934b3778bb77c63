# SPDX-License-Identifier: Apache-2.0
"""Lists of accounts, users, domains and jobs that SQL selects, compared with each rule for each row."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.management.api import account_answers
from systemvm.management.state import account_list, accounts, instances, jobs, schema
from systemvm.management.state.accounts import ROOT_DOMAIN_ID, SYSTEM_ACCOUNT_ID, Account, Domain, User
from systemvm.management.state.database import Connection
from systemvm.management.state.status import AccountType, InstanceState, InstanceType

Case = tuple[dict[str, str], Callable[[Any], bool]]
NAMES = ("Ärger", "a % sign", "plain", "PLAIN")


def fill(cloud: SmallCloud, chance: random.Random) -> tuple[list[Domain], list[Account], list[User]]:
    """Add domains, accounts and users of all kinds; return those that a list can contain."""

    def add(connection: Connection) -> tuple[list[Domain], list[Account], list[User]]:
        first = accounts.create_domain(connection, "first", "/first", ROOT_DOMAIN_ID)
        accounts.create_domain(connection, "beneath", "/first/beneath", first.id)
        accounts.create_domain(connection, "Second", "/second", ROOT_DOMAIN_ID)
        domains = accounts.all_domains(connection)
        for _ in range(25):
            kind = chance.choice((AccountType.USER, AccountType.ADMIN))
            account = accounts.create_account(
                connection, chance.choice(NAMES), kind, chance.choice(domains).id
            )
            accounts.update_account(connection, account.id, state=chance.choice(("enabled", "locked")))
            for _ in range(chance.randrange(3)):
                user = accounts.create_user(
                    connection, chance.choice(NAMES), account, None,
                    first_name=chance.choice(NAMES), last_name="last", email=f"{account.id}@example.com",
                    state=chance.choice(("enabled", "disabled")),
                )  # fmt: skip
                if chance.random() < 0.2:
                    accounts.remove_users(connection, [user.id])
            if chance.random() < 0.2:
                accounts.update_account(connection, account.id, removed=account.created)
        return (
            domains,
            [row for row in accounts.list_accounts(connection) if row.id != SYSTEM_ACCOUNT_ID],
            [
                row
                for row in accounts.all_users(connection)
                if row.removed is None and row.account_id != SYSTEM_ACCOUNT_ID
            ],
        )

    return cloud.database.run_now(add)


async def check(
    cloud: SmallCloud,
    command: str,
    object_name: str,
    rows: list[Any],
    cases: list[Case],
    sees: Callable[[Any], bool] = lambda row: True,
) -> None:
    compared = 0
    for viewer in (cloud.admin, cloud.user):
        for parameters, fits in cases:
            expected = [row.uuid for row in rows if (viewer.is_admin or sees(row)) and fits(row)]
            answer = await cloud.call(command, viewer, **parameters)
            found = [row["id"] for row in answer.get(object_name, [])]
            assert found == expected, (viewer.account.name, parameters)
            assert answer.get("count", 0) == len(expected)
            compared += bool(expected)
    assert compared >= len(cases)


@pytest_twisted.ensureDeferred
async def test_filters_of_accounts(cloud: SmallCloud) -> None:
    domains, rows, _ = fill(cloud, random.Random(1))
    cases: list[Case] = [
        ({}, lambda row: True),
        ({"id": rows[4].uuid}, lambda row: row.id == rows[4].id),
        ({"name": "plain"}, lambda row: row.name == "plain"),
        ({"accounttype": "1"}, lambda row: row.is_admin),
        ({"state": "Locked"}, lambda row: row.state == "locked"),
        ({"keyword": "äRG"}, lambda row: row.name == "Ärger"),
        *(({"domainid": one.uuid}, lambda row, one=one: row.domain_id == one.id) for one in domains),
        (
            {"domainid": domains[1].uuid, "isrecursive": "true"},
            lambda row: row.domain_id in (domains[1].id, domains[2].id),
        ),
    ]
    await check(cloud, "listAccounts", "account", rows, cases, lambda row: row.id == cloud.user.account.id)
    assert await cloud.call("listAccounts", domainid=rows[0].uuid) == {}
    [page] = (await cloud.call("listAccounts", page=2, pagesize=1))["account"]
    assert page["id"] == rows[1].uuid


@pytest_twisted.ensureDeferred
async def test_filters_of_users(cloud: SmallCloud) -> None:
    domains, owners, rows = fill(cloud, random.Random(2))
    by_id = {account.id: account for account in cloud.database.run_now(accounts.all_accounts)}
    everyones = {"listall": "true"}
    cases: list[Case] = [
        (everyones, lambda row: True),
        ({"id": rows[4].uuid}, lambda row: row.id == rows[4].id),
        ({"account": "plain"}, lambda row: by_id[row.account_id].name == "plain"),
        (everyones | {"username": "plain"}, lambda row: row.username == "plain"),
        (everyones | {"accounttype": "1"}, lambda row: by_id[row.account_id].is_admin),
        (everyones | {"state": "Disabled"}, lambda row: row.state == "disabled"),
        (everyones | {"keyword": "äRG"}, lambda row: "Ärger" in (row.username, row.first_name)),
        (everyones | {"keyword": "5@EXAMPLE"}, lambda row: "5@example" in row.email),
        (everyones | {"domainid": domains[1].uuid}, lambda row: row.domain_id == domains[1].id),
        (
            everyones | {"domainid": domains[1].uuid, "isrecursive": "true"},
            lambda row: row.domain_id in (domains[1].id, domains[2].id),
        ),
    ]
    await check(cloud, "listUsers", "user", rows, cases, lambda row: row.account_id == cloud.user.account.id)
    assert owners
    mine = (await cloud.call("listUsers"))["user"]
    assert [row["username"] for row in mine] == ["admin"]
    # whoever names a domain wants the users there, as Ansible's cs_user does
    there = (await cloud.call("listUsers", domainid=domains[1].uuid))["user"]
    assert sorted(row["username"] for row in there) == sorted(
        row.username for row in rows if row.domain_id == domains[1].id
    )
    assert await cloud.call("listUsers", cloud.user, domainid=domains[1].uuid) == {}


@pytest_twisted.ensureDeferred
async def test_filters_of_domains(cloud: SmallCloud) -> None:
    rows, _, _ = fill(cloud, random.Random(3))
    cases: list[Case] = [
        ({}, lambda row: True),
        ({"id": rows[1].uuid}, lambda row: row.id == rows[1].id),
        ({"name": "SECOND"}, lambda row: row.name == "Second"),
        ({"keyword": "enea"}, lambda row: row.name == "beneath"),
        ({"level": "2"}, lambda row: row.name == "beneath"),
        ({"level": "0"}, lambda row: row.path == "/"),
        ({"level": "1"}, lambda row: row.name in ("first", "Second")),
    ]
    await check(cloud, "listDomains", "domain", rows, cases, lambda row: row.id == ROOT_DOMAIN_ID)
    answer = (await cloud.call("listDomains"))["domain"]
    assert {row["name"]: (row["level"], row["haschild"]) for row in answer} == {
        "ROOT": (0, True),
        "first": (1, True),
        "beneath": (2, False),
        "Second": (1, False),
    }


@pytest_twisted.ensureDeferred
async def test_an_account_has_its_own_users_and_counts(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_answers, "AT_ONCE", 2)  # the same, in several queries
    _, rows, users = fill(cloud, random.Random(4))
    cloud.add_template(owner=cloud.user)
    owner = {"account_id": cloud.user.account.id, "zone_id": cloud.zone.id}

    def add(connection: Connection, state: InstanceState) -> None:
        instances.create(connection, InstanceType.USER, name=state.value, state=state, **owner)

    for state in (InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.DESTROYED):
        cloud.database.run_now(add, state)
    answer = {row["id"]: row for row in (await cloud.call("listAccounts"))["account"]}
    assert len(answer) == len(rows)
    for row in rows:
        own = [user.uuid for user in users if user.account_id == row.id]
        assert [user["id"] for user in answer[row.uuid].get("user", [])] == own
    found = answer[cloud.user.account.uuid]
    assert (found["vmtotal"], found["vmrunning"], found["vmstopped"], found["templatetotal"]) == (2, 1, 1, 1)
    others = [row for uuid, row in answer.items() if uuid != cloud.user.account.uuid]
    assert {(row["vmtotal"], row["templatetotal"]) for row in others} == {(0, 0)}
    domains = (await cloud.call("listDomains"))["domain"]
    assert {row["name"] for row in domains if row["haschild"]} == {"ROOT", "first"}


@pytest_twisted.ensureDeferred
async def test_filters_of_jobs(cloud: SmallCloud) -> None:
    def add(connection: Connection) -> None:
        for day, (command, owner) in enumerate(
            (("stopSystemVm", cloud.admin), ("deployVirtualMachine", cloud.user), ("Überall", cloud.admin))
        ):
            job = jobs.create(
                connection, command=command, arguments={}, account_id=owner.account.id,
                user_id=owner.user.id,
            )  # fmt: skip
            moment = datetime(2026, 3, 1 + day, tzinfo=UTC)
            jobs.rows.update_where(connection, schema.async_jobs.c.id == job.id, created=moment)

    cloud.database.run_now(add)

    async def found(viewer: Any = None, **parameters: str) -> list[tuple[str, str]]:
        answer = await cloud.call("listAsyncJobs", viewer, **parameters)
        rows = answer.get("asyncjobs", [])
        assert answer.get("count", 0) == len(rows)
        return [(row["cmd"], row["account"]) for row in rows]

    stop, deploy = ("stopSystemVm", "admin"), ("deployVirtualMachine", "users")
    other = ("Überall", "admin")
    assert await found(listall="true") == [stop, deploy, other]
    assert await found() == [stop, other]
    assert await found(cloud.user, listall="true") == [deploy]
    assert await found(listall="true", startdate="2026-03-02") == [deploy, other]
    assert await found(listall="true", keyword="ÜBER") == [other]
    assert await found(listall="true", keyword="%") == []
    assert await found(account="users") == [deploy]
    assert (await cloud.call("listAsyncJobs", listall="true", page=2, pagesize=2))["count"] == 3


def test_a_filter_of_no_domain_finds_nothing(cloud: SmallCloud) -> None:
    which = account_list.AccountFilter(ids=None, domain_ids=frozenset({0}))
    assert cloud.database.run_now(account_list.accounts_page, which, slice(None)) == ([], 0)
