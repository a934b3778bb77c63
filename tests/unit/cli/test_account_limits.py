# SPDX-License-Identifier: Apache-2.0
"""`systemvm account limit --kind` and `account limits`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from fake_daemon import FakeDaemon

OWNER = {"account": "ada", "domainid": "d-1"}
GIB = 1 << 30


def limit(number: str, kind: str, most: int, *, is_default: bool = False) -> dict[str, Any]:
    return OWNER | {
        "resourcetype": number, "resourcetypename": kind, "max": most, "isdefault": is_default,
    }  # fmt: skip


def daemon(**results: Any) -> FakeDaemon:
    found = {"id": "a-1", "name": "ada", "domainid": "d-1"}
    return FakeDaemon(listAccounts={"account": [found]}, **results)


@pytest.mark.parametrize(
    ("options", "sent", "answer", "text"),
    [
        (["--max", "10"], {"max": "10"}, limit("0", "user_vm", 10), "ada has at most 10 VMs."),
        (["--unlimited"], {"max": "-1"}, limit("0", "user_vm", -1), "ada has no limit of VMs."),
        (
            ["--default"], {"usedefault": "true"}, limit("0", "user_vm", 20, is_default=True),
            "ada has at most 20 VMs, by the default.",
        ),
    ],
)  # fmt: skip
def test_each_kind_can_be_limited(
    run: Callable[..., Result],
    options: list[str],
    sent: dict[str, str],
    answer: dict[str, Any],
    text: str,
) -> None:
    fake = daemon(updateResourceLimit={"resourcelimit": answer})
    assert run(fake, "account", "limit", "ada", "--kind", "user_vm", *options).output.strip() == text
    assert fake.calls[-1] == ("updateResourceLimit", OWNER | {"resourcetype": "0"} | sent)


def test_memory_has_a_unit_and_gib_are_of_storage_only(run: Callable[..., Result]) -> None:
    fake = daemon(listResourceLimits={"resourcelimit": [limit("9", "memory", 4096)]})
    shown = run(fake, "account", "limit", "ada", "--kind", "memory")
    assert shown.output.strip() == "ada has 4096 MiB of memory."
    wrong = run(fake, "account", "limit", "ada", "--kind", "memory", "--secondary-storage-gib", "3")
    assert (wrong.exit_code, "is not a limit of memory" in wrong.output) == (1, True)
    assert run(fake, "account", "limit", "ada", "--kind", "shoes").exit_code == 2


def test_all_limits_are_listed_with_what_the_account_has(run: Callable[..., Result]) -> None:
    rows = [limit("0", "user_vm", 10), limit("10", "primary_storage", -1, is_default=True)]
    counts = [
        {"resourcetype": "0", "resourcecount": 3},
        {"resourcetype": "10", "resourcecount": 3 * GIB},
    ]
    fake = daemon(listResourceLimits={"resourcelimit": rows}, updateResourceCount={"resourcecount": counts})
    lines = run(fake, "account", "limits", "ada").output.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["user_vm", "3", "10", "no"], ["primary_storage", "3.0", "GiB", "none", "yes"],
    ]  # fmt: skip
    assert fake.calls[-2:] == [
        ("listResourceLimits", OWNER), ("updateResourceCount", OWNER),
    ]  # fmt: skip
    found = json.loads(run(fake, "--json", "account", "limits", "ada").output)
    assert [row["resourcecount"] for row in found] == [3, 3 * GIB]
