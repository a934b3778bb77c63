# SPDX-License-Identifier: Apache-2.0
"""`systemvm domain`, and accounts in domains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from fake_daemon import FakeDaemon

ROWS = [
    {"id": "d-1", "name": "ROOT", "path": "ROOT"},
    {"id": "d-2", "name": "sales", "path": "ROOT/sales"},
    {"id": "d-3", "name": "north", "path": "ROOT/sales/north"},
]
USER = {"username": "ada", "account": "ada", "rolename": "User", "state": "enabled", "email": "a@b.test"}
RESULTS: dict[str, Any] = {
    "listDomains": {"domain": ROWS},
    "createDomain": {"domain": {"id": "d-4", "path": "ROOT/sales/south"}},
    "updateDomain": {"domain": {"id": "d-3", "path": "ROOT/sales/east"}},
    "deleteDomain": {"jobid": "j"},
    "queryAsyncJobResult": {"jobstatus": 1, "jobresult": {}},
    "createAccount": {"account": {"name": "dora"}},
    "listUsers": {"user": [USER | {"id": "u-1"}, USER | {"id": "u-2"}]},
    "enableUser": {"user": USER},
}


@pytest.fixture
def daemon() -> FakeDaemon:
    return FakeDaemon(**RESULTS)


@pytest.mark.parametrize(
    ("arguments", "command", "params", "text"),
    [
        (
            ("create", "sales/south"), "createDomain", {"name": "south", "parentdomainid": "d-2"},
            "domain ROOT/sales/south is created.",
        ),
        (("create", "/ROOT/x"), "createDomain", {"name": "x", "parentdomainid": "d-1"}, "is created"),
        (
            ("rename", "ROOT/sales/north", "east"), "updateDomain", {"id": "d-3", "name": "east"},
            "domain ROOT/sales/north is now ROOT/sales/east.",
        ),
        (("delete", "--yes", "sales/north"), "deleteDomain", {"id": "d-3", "cleanup": "false"}, "deleted"),
        (
            ("delete", "--yes", "--cleanup", "d-2"), "deleteDomain", {"id": "d-2", "cleanup": "true"},
            "domain d-2 is deleted.",
        ),
    ],
)  # fmt: skip
def test_each_verb_calls_its_command(
    run: Callable[..., Result],
    daemon: FakeDaemon,
    arguments: tuple[str, ...],
    command: str,
    params: dict[str, str],
    text: str,
) -> None:
    result = run(daemon, "domain", *arguments)
    assert text in result.output, result.output
    assert (command, params) in daemon.calls


def test_domains_are_listed_and_an_unknown_one_is_refused(
    run: Callable[..., Result], daemon: FakeDaemon
) -> None:
    lines = run(daemon, "domain", "list").output.splitlines()
    assert [line.split() for line in lines[1:]] == [[row["path"], row["id"]] for row in ROWS]
    unknown = run(daemon, "domain", "delete", "--yes", "west")
    assert (unknown.exit_code, "there is no domain 'west'" in unknown.output) == (1, True)
    assert "ROOT/sales/north" in unknown.output


def test_an_account_is_created_in_a_domain(run: Callable[..., Result], daemon: FakeDaemon) -> None:
    options = ("--domain", "sales", "--domain-admin")
    run(daemon, "account", "create", "dora", *options, standard_input="a secret\n")
    command, params = daemon.calls[-1]
    assert (command, params["accounttype"], params["domainid"]) == ("createAccount", "2", "d-2")
    both = run(daemon, "account", "create", "dora", "--admin", *options, standard_input="a secret\n")
    assert (both.exit_code, "--admin excludes" in both.output) == (1, True)


def test_users_with_the_same_name_in_two_domains_are_told_apart(
    run: Callable[..., Result], daemon: FakeDaemon
) -> None:
    ambiguous = run(daemon, "user", "enable", "ada")
    assert (ambiguous.exit_code, "u-1, u-2" in ambiguous.output) == (1, True)
    assert run(daemon, "user", "enable", "u-2").exit_code == 0
    assert daemon.calls[-1] == ("enableUser", {"id": "u-2"})
