# SPDX-License-Identifier: Apache-2.0
"""`systemvm user key`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from fake_daemon import FakeDaemon

ROWS = [
    {"id": "k-1", "name": "backup", "apikey": "first", "rules": ["list*"], "enddate": "2027-12-31"},
    {"id": "k-2", "name": "all", "apikey": "second"},
]
RESULTS: dict[str, Any] = {
    "listUsers": {"user": [{"id": "u-1", "username": "ada"}]},
    "listUserKeys": {"userkey": ROWS},
    "createUserKey": {"userkey": {"apikey": "third", "secretkey": "the secret"}},
    "deleteUserKey": {"success": True},
}


@pytest.fixture
def daemon() -> FakeDaemon:
    return FakeDaemon(**RESULTS)


def test_a_key_is_created_with_an_end_and_a_scope(run: Callable[..., Result], daemon: FakeDaemon) -> None:
    options = ("--expires", "2027-12-31", "--allow", "list*", "--allow", "createSnapshot")
    result = run(daemon, "user", "key", "create", "ada", "x", *options)
    assert result.output.split() == ["API", "key", "third", "secret", "key", "the", "secret"]
    wanted = {"userid": "u-1", "name": "x", "enddate": "2027-12-31", "rules": "list*,createSnapshot"}
    assert daemon.calls[-1] == ("createUserKey", wanted)
    run(daemon, "user", "key", "create", "ada", "x")
    assert daemon.calls[-1] == ("createUserKey", {"userid": "u-1", "name": "x"})


def test_keys_are_listed_and_deleted_by_name(run: Callable[..., Result], daemon: FakeDaemon) -> None:
    lines = run(daemon, "user", "key", "list", "ada").output.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["backup", "2027-12-31", "list*", "first"], ["all", "never", "all", "second"],
    ]  # fmt: skip
    assert run(daemon, "user", "key", "delete", "ada", "all").exit_code == 0
    assert daemon.calls[-1] == ("deleteUserKey", {"id": "k-2"})
    unknown = run(daemon, "user", "key", "delete", "ada", "x")
    assert (unknown.exit_code, "choose one of these: backup, all" in unknown.output) == (1, True)
