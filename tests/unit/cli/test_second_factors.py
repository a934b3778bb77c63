# SPDX-License-Identifier: Apache-2.0
"""`systemvm user two-factor`."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import Result

from fake_daemon import FakeDaemon

ADA = {
    "id": "u-1", "username": "ada", "account": "research", "domain": "ROOT",
    "is2faenabled": True, "is2famandated": False,
}  # fmt: skip


@pytest.fixture
def daemon() -> FakeDaemon:
    return FakeDaemon(listUsers={"user": [ADA]}, setupUserTwoFactorAuthentication={"setup2fa": {}})


def test_second_factors_are_listed(run: Callable[..., Result], daemon: FakeDaemon) -> None:
    lines = run(daemon, "user", "two-factor", "list").output.splitlines()
    assert lines[1].split() == ["ada", "research", "yes", "no"]
    assert json.loads(run(daemon, "--json", "user", "two-factor", "list").output) == [ADA]


def test_a_second_factor_is_disabled_after_a_question(run: Callable[..., Result], daemon: FakeDaemon) -> None:
    disable = ("user", "two-factor", "disable", "ada")
    assert run(daemon, *disable, standard_input="n\n").exit_code == 1
    assert all(name != "setupUserTwoFactorAuthentication" for name, _ in daemon.calls)
    assert run(daemon, *disable, "--yes").output == "user ada has no second factor.\n"
    assert daemon.calls[-1] == ("setupUserTwoFactorAuthentication", {"enable": "false", "userid": "u-1"})
