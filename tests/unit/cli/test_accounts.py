# SPDX-License-Identifier: Apache-2.0
"""`systemvm account` and `systemvm user` against a daemon that remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from systemvm.cli import daemon_client as cli_daemon
from systemvm.cli.__main__ import main

USER = {
    "id": "u-1", "username": "ada", "account": "ada", "rolename": "User", "state": "enabled",
    "email": "ada@example.test",
}  # fmt: skip
ACCOUNT = {
    "id": "a-1", "name": "ada", "rolename": "User", "state": "enabled", "user": [USER], "vmtotal": 2,
    "templatetotal": 1,
}  # fmt: skip
ANSWERS: dict[str, Any] = {
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
    "deleteAccount": {"jobid": "j"},
    "queryAsyncJobResult": {"jobstatus": 1, "jobresult": {}},
}


@pytest.fixture
def calls() -> list[tuple[str, dict[str, Any]]]:
    return []


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, calls: list[tuple[str, dict[str, Any]]]) -> Callable[..., Result]:
    def answer(path: str, method: str, params: dict[str, Any], timeout_s: float = 30) -> Any:
        calls.append((method, params))
        return ANSWERS[method]

    monkeypatch.setattr(cli_daemon, "unix_call", answer)
    monkeypatch.setattr(cli_daemon.time, "sleep", lambda _: None)
    return lambda *words, input="": CliRunner().invoke(main, ["--root", "/nowhere", *words], input=input)


def test_an_account_is_made_with_a_password_that_no_argument_holds(
    run: Callable[..., Result], calls: list[tuple[str, dict[str, Any]]]
) -> None:
    made = run("account", "create", "ada", input="s3cret word\n")
    assert made.output == "account ada is created; ada can log in.\n"
    [(command, params)] = calls
    assert (command, params["password"], params["accounttype"]) == ("createAccount", "s3cret word", "0")
    assert run("account", "create", "ada", "--password", "x").exit_code == 2
    nothing = run("account", "create", "ada", input="")
    assert nothing.exit_code == 1
    assert "no password was given" in nothing.output


@pytest.mark.parametrize(
    ("words", "command", "params", "says"),
    [
        (("account", "disable", "ada"), "disableAccount", {"id": "a-1", "lock": "false"}, "is disabled"),
        (("account", "disable", "--lock", "ada"), "disableAccount", {"id": "a-1", "lock": "true"}, "locked"),
        (("account", "enable", "ada"), "enableAccount", {"id": "a-1"}, "is enabled"),
        (("account", "delete", "--yes", "ada"), "deleteAccount", {"id": "a-1"}, "is deleted"),
        (("user", "disable", "ada"), "disableUser", {"id": "u-1"}, "is disabled"),
        (("user", "enable", "ada"), "enableUser", {"id": "u-1"}, "is enabled"),
        (("user", "delete", "--yes", "u-1"), "deleteUser", {"id": "u-1"}, "is deleted"),
        (("user", "password", "ada"), "updateUser", {"id": "u-1", "password": "next"}, "new password"),
        (("user", "keys", "--rotate", "ada"), "registerUserKeys", {"id": "u-1"}, "secret key  secret"),
    ],
)
def test_each_verb_is_a_command(
    run: Callable[..., Result],
    calls: list[tuple[str, dict[str, Any]]],
    words: tuple[str, ...],
    command: str,
    params: dict[str, str],
    says: str,
) -> None:
    result = run(*words, input="next\n")
    assert result.exit_code == 0, result.output
    assert says in result.output
    assert (command, params) in calls


def test_lists_and_what_is_not_there(run: Callable[..., Result]) -> None:
    assert "ada" in run("account", "list").output
    assert "ada@example.test" in run("user", "list").output
    unknown = run("user", "disable", "eve")
    assert (unknown.exit_code, "There is: ada" in unknown.output) == (1, True)
    keyless = run("user", "keys", "ada")
    assert "`systemvm user keys --rotate ada`" in keyless.output
