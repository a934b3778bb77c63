# SPDX-License-Identifier: Apache-2.0
"""`systemvm role` and `account role`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from fake_daemon import FakeDaemon

USER = {"id": "r-1", "name": "User", "type": "User", "isdefault": True}
MADE = {"id": "r-2", "name": "no deletions", "type": "User", "isdefault": False}
RULES = [
    {"id": "p-1", "rule": "list*", "permission": "allow"},
    {"id": "p-2", "rule": "delete*", "permission": "allow"},
]
RESULTS: dict[str, Any] = {
    "listRoles": {"role": [USER, MADE]},
    "createRole": {"role": MADE},
    "deleteRole": {"success": True},
    "listRolePermissions": {"rolepermission": RULES},
    "createRolePermission": {"rolepermission": {"id": "p-3"}},
    "updateRolePermission": {"success": True},
    "deleteRolePermission": {"success": True},
    "listAccounts": {"account": [{"id": "a-1", "name": "ann"}]},
    "updateAccount": {"account": {"id": "a-1"}},
}


@pytest.fixture
def daemon() -> FakeDaemon:
    return FakeDaemon(**RESULTS)


@pytest.mark.parametrize(
    ("arguments", "calls"),
    [
        (("role", "create", "x", "--type", "User"), [("createRole", {"name": "x", "type": "User"})]),
        (
            ("role", "create", "x", "--copy", "User", "--description", "y"),
            [("createRole", {"name": "x", "roleid": "r-1", "description": "y"})],
        ),
        (("role", "delete", "no deletions"), [("deleteRole", {"id": "r-2"})]),
        (
            ("role", "deny", "no deletions", "DELETE*"),
            [
                ("updateRolePermission", {"roleid": "r-2", "ruleid": "p-2", "permission": "deny"}),
                ("updateRolePermission", {"roleid": "r-2", "ruleorder": "p-2,p-1"}),
            ],
        ),
        (
            ("role", "allow", "no deletions", "stop*"),
            [
                ("createRolePermission", {"roleid": "r-2", "rule": "stop*", "permission": "allow"}),
                ("updateRolePermission", {"roleid": "r-2", "ruleorder": "p-3,p-1,p-2"}),
            ],
        ),
        (("role", "forget", "no deletions", "list*"), [("deleteRolePermission", {"id": "p-1"})]),
        (("account", "role", "ann", "User"), [("updateAccount", {"id": "a-1", "roleid": "r-1"})]),
    ],
)
def test_each_verb_calls_its_commands(
    run: Callable[..., Result],
    daemon: FakeDaemon,
    arguments: tuple[str, ...],
    calls: list[tuple[str, dict[str, str]]],
) -> None:
    result = run(daemon, *arguments)
    assert result.exit_code == 0, result.output
    assert [call for call in daemon.calls if not call[0].startswith("list")] == calls


def test_roles_and_rules_are_listed(run: Callable[..., Result], daemon: FakeDaemon) -> None:
    lines = run(daemon, "role", "list").output.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["User", "User", "yes", "r-1"], ["no", "deletions", "User", "no", "r-2"],
    ]  # fmt: skip
    lines = run(daemon, "role", "rules", "User").output.splitlines()
    assert [line.split() for line in lines[1:]] == [["list*", "allow"], ["delete*", "allow"]]
    empty = FakeDaemon(**RESULTS | {"listRolePermissions": {}})
    assert "permits nothing" in run(empty, "role", "rules", "User").output


def test_what_is_missing_is_refused(run: Callable[..., Result], daemon: FakeDaemon) -> None:
    for arguments, text in (
        (("role", "create", "x"), "give one of --type and --copy"),
        (("role", "forget", "User", "x*"), "role has no rule"),
        (("role", "rules", "nobody"), "there is no role named"),
    ):
        result = run(daemon, *arguments)
        assert (result.exit_code, text in result.output) == (1, True), result.output
