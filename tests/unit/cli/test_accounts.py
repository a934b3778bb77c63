# SPDX-License-Identifier: Apache-2.0
"""`systemvm account` and `systemvm user`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from fake_daemon import FakeDaemon
from systemvm.cli.account_usage import PAGE_SIZE

USER = {
    "id": "u-1", "username": "ada", "account": "ada", "rolename": "User", "state": "enabled",
    "email": "ada@example.test",
}  # fmt: skip
ACCOUNT = {
    "id": "a-1", "name": "ada", "rolename": "User", "state": "enabled", "user": [USER], "vmtotal": 2,
    "templatetotal": 1, "domainid": "d-1", "domainpath": "ROOT",
}  # fmt: skip
RESULTS: dict[str, Any] = {
    "listAccounts": {"account": [ACCOUNT]},
    "listUsers": {"user": [USER]},
    "createAccount": {"account": ACCOUNT},
    "createUser": {"user": USER},
    "updateUser": {"user": USER},
    "enableAccount": {"account": ACCOUNT},
    "enableUser": {"user": USER},
    "deleteUser": {"success": True},
    "getUserKeys": {"userkeys": {}},
    "registerUserKeys": {"userkeys": {"apikey": "key", "secretkey": "secret"}},
    "disableAccount": {"jobid": "j"},
    "disableUser": {"jobid": "j"},
    "lockUser": {"user": USER},
    "deleteAccount": {"jobid": "j"},
    "queryAsyncJobResult": {"jobstatus": 1, "jobresult": {}},
}


@pytest.fixture
def daemon() -> FakeDaemon:
    return FakeDaemon(**RESULTS)


def test_password_of_a_new_account_is_read_from_standard_input_only(
    run: Callable[..., Result], daemon: FakeDaemon
) -> None:
    created = run(daemon, "account", "create", "ada", standard_input="s3cret phrase\n")
    assert created.output == "account ada is created; ada can log in.\n"
    [(command, params)] = daemon.calls
    assert (command, params["password"], params["accounttype"]) == ("createAccount", "s3cret phrase", "0")
    assert run(daemon, "account", "create", "ada", "--password", "x").exit_code == 2
    without_input = run(daemon, "account", "create", "ada")
    assert without_input.exit_code == 1
    assert "password is missing" in without_input.output


@pytest.mark.parametrize(
    ("arguments", "command", "params", "text"),
    [
        (("account", "disable", "ada"), "disableAccount", {"id": "a-1", "lock": "false"}, "is disabled"),
        (("account", "disable", "--lock", "ada"), "disableAccount", {"id": "a-1", "lock": "true"}, "locked"),
        (("account", "enable", "ada"), "enableAccount", {"id": "a-1"}, "is enabled"),
        (("account", "delete", "--yes", "ada"), "deleteAccount", {"id": "a-1"}, "is deleted"),
        (("user", "disable", "ada"), "disableUser", {"id": "u-1"}, "is disabled"),
        (("user", "disable", "--lock", "ada"), "lockUser", {"id": "u-1"}, "is locked"),
        (("user", "enable", "ada"), "enableUser", {"id": "u-1"}, "is enabled"),
        (("user", "delete", "--yes", "u-1"), "deleteUser", {"id": "u-1"}, "is deleted"),
        (("user", "password", "ada"), "updateUser", {"id": "u-1", "password": "next"}, "new password"),
        (("user", "keys", "--rotate", "ada"), "registerUserKeys", {"id": "u-1"}, "secret key  secret"),
    ],
)
def test_each_command_calls_its_api_command(
    run: Callable[..., Result],
    daemon: FakeDaemon,
    arguments: tuple[str, ...],
    command: str,
    params: dict[str, str],
    text: str,
) -> None:
    result = run(daemon, *arguments, standard_input="next\n")
    assert result.exit_code == 0, result.output
    assert text in result.output
    assert (command, params) in daemon.calls


def test_lists_show_names_and_addresses(run: Callable[..., Result], daemon: FakeDaemon) -> None:
    assert "ada" in run(daemon, "account", "list").output
    assert "ada@example.test" in run(daemon, "user", "list").output


def test_unknown_user_and_missing_key_are_reported_with_hints(
    run: Callable[..., Result], daemon: FakeDaemon
) -> None:
    unknown = run(daemon, "user", "disable", "eve")
    assert (unknown.exit_code, "choose one of these users: ada" in unknown.output) == (1, True)
    keyless = run(daemon, "user", "keys", "ada")
    assert "systemvm user keys --rotate ada" in keyless.output


LIMIT = {"account": "ada", "max": 200, "isdefault": False, "resourcetype": "11"}


@pytest.mark.parametrize(
    ("options", "sent", "answer", "text"),
    [
        (["--secondary-storage-gib", "200"], {"max": "200"}, LIMIT, "ada has 200 GiB of secondary storage."),
        (["--unlimited"], {"max": "-1"}, LIMIT | {"max": -1}, "ada has no limit of secondary storage."),
        (
            ["--default"], {"usedefault": "true"}, LIMIT | {"max": 4, "isdefault": True},
            "ada has 4 GiB of secondary storage, by the zone's file.",
        ),
    ],
)  # fmt: skip
def test_the_limit_of_an_account_is_set(
    run: Callable[..., Result],
    options: list[str],
    sent: dict[str, str],
    answer: dict[str, Any],
    text: str,
) -> None:
    owner = ACCOUNT | {"domainid": "d-1"}
    fake = FakeDaemon(listAccounts={"account": [owner]}, updateResourceLimit={"resourcelimit": answer})
    assert run(fake, "account", "limit", "ada", *options).output.strip() == text
    which = {"resourcetype": "11", "account": "ada", "domainid": "d-1"}
    assert fake.calls[-1] == ("updateResourceLimit", which | sent)


def test_the_limit_of_an_account_is_shown_and_only_one_is_set(run: Callable[..., Result]) -> None:
    owner = ACCOUNT | {"domainid": "d-1"}
    fake = FakeDaemon(listAccounts={"account": [owner]}, listResourceLimits={"resourcelimit": [LIMIT]})
    assert run(fake, "account", "limit", "ada").output.strip() == "ada has 200 GiB of secondary storage."
    both = run(fake, "account", "limit", "ada", "--unlimited", "--default")
    assert both.exit_code == 1
    assert "more than one limit" in both.output
    assert run(fake, "account", "limit", "ada", "--secondary-storage-gib", "-1").exit_code == 2


USAGE = [
    {
        "account": "ada", "accountid": "a-1", "domainid": "d-1", "domain": "ROOT",
        "storedbytes": 3 << 20, "servedbytes": 5, "consoleminutes": 2,
    }
]  # fmt: skip


def usage_record(account: str, kind: int, hours: str) -> dict[str, Any]:
    about = {"account": account, "domainpath": "ROOT", "usagetype": kind, "usageid": str(uuid.uuid4())}
    return {**about, "rawusage": hours}


def test_usage_of_a_period_is_hours_by_account_and_type(run: Callable[..., Result]) -> None:
    whole = [usage_record("ada", 6, "1.5") for _ in range(PAGE_SIZE)]
    last = [usage_record("ada", 2, "24"), usage_record("bob", 2, "0.25")]
    again = whole[-1]  # on the next page, because there was a new record before it
    fake = FakeDaemon(
        listUsageRecords=[{"usagerecord": whole}, {"usagerecord": [again, *last]}],
        listUsageTypes={"usagetype": [{"id": 2, "name": "ALLOCATED_VM"}, {"id": 6, "name": "VOLUME"}]},
    )
    shown = run(fake, "account", "usage", "--since", "2026-11-01", "--until", "2026-11-30")
    lines = [line.split() for line in shown.output.splitlines()]
    assert lines[1:] == [
        ["ada", "ROOT", "ALLOCATED_VM", "1", "24.00"],
        ["ada", "ROOT", "VOLUME", "500", "750.00"],
        ["bob", "ROOT", "ALLOCATED_VM", "1", "0.25"],
    ]
    asked = {"startdate": "2026-11-01", "enddate": "2026-11-30", "page": 1, "pagesize": PAGE_SIZE}
    assert fake.calls[0] == ("listUsageRecords", asked)
    assert [each["page"] for _, each in fake.calls[:2]] == [1, 2]
    fake = FakeDaemon(listUsageRecords={"usagerecord": last})
    assert json.loads(run(fake, "--json", "account", "usage", "--since", "2026-11-01").output) == last


@pytest.mark.parametrize(
    "wrong",
    [
        ("--until", "2026-11-30"),
        ("--since", "2026-11-01", "--prometheus"),
        ("--since", "yesterday"),
    ],
)
def test_a_period_that_is_none_is_refused(run: Callable[..., Result], wrong: tuple[str, ...]) -> None:
    fake = FakeDaemon()
    assert run(fake, "account", "usage", *wrong).exit_code == 2
    assert fake.calls == []


def test_usage_is_a_table_or_metrics(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(listAccountUsage={"accountusage": USAGE})
    shown = run(fake, "account", "usage")
    assert all(word in shown.output for word in ("CONSOLE MINUTES", "ada", "3.0 MiB")), shown.output
    assert fake.calls[-1] == ("listAccountUsage", {"listall": "true"})
    metrics = run(fake, "account", "usage", "--prometheus").output.splitlines()
    assert 'systemvm_account_stored_bytes{account="ada",domain="ROOT"} 3.145728e+06' in metrics
    assert 'systemvm_account_served_bytes_total{account="ada",domain="ROOT"} 5.0' in metrics
    assert 'systemvm_account_console_seconds_total{account="ada",domain="ROOT"} 120.0' in metrics
    assert "# TYPE systemvm_account_served_bytes_total counter" in metrics
