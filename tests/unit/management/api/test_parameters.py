# SPDX-License-Identifier: Apache-2.0
"""Parameters, from query text and from JSON."""

from __future__ import annotations

from typing import Any

import pytest

from systemvm.management.api.command import MAX_PAGE_SIZE, page_window
from systemvm.management.api.errors import ApiError
from systemvm.management.api.parameters import (
    Arguments,
    ParameterType,
    optional,
    read_arguments,
    required,
)


def read(kind: ParameterType, value: Any, **more: Any) -> Any:
    return read_arguments([optional("it", kind, "", **more)], {"it": value}).get("it")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (ParameterType.STRING, "ü", "ü"),
        (ParameterType.BOOLEAN, "TRUE", True),
        (ParameterType.BOOLEAN, "false", False),
        (ParameterType.BOOLEAN, True, True),
        (ParameterType.INTEGER, "-1", -1),
        (ParameterType.INTEGER, 7, 7),
        (
            ParameterType.UUID,
            "6F4F3A5E-5D0E-4C52-9A8E-0F1F4F7F2A10",
            "6f4f3a5e-5d0e-4c52-9a8e-0f1f4f7f2a10",
        ),
        (ParameterType.LIST, "a, b,,c", ["a", "b", "c"]),
        (ParameterType.LIST, ["a", "b"], ["a", "b"]),
        (ParameterType.STRING, "", None),
        (ParameterType.BOOLEAN, None, None),
    ],
)
def test_what_a_value_becomes(kind: ParameterType, value: Any, expected: Any) -> None:
    assert read(kind, value) == expected


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        (ParameterType.BOOLEAN, "yes", "true or false"),
        (ParameterType.INTEGER, "1.5", "a whole number"),
        (ParameterType.INTEGER, True, "a whole number"),
        (ParameterType.UUID, "1", "a UUID"),
        (ParameterType.STRING, "a\nb", "control characters"),
        (ParameterType.STRING, "a" * 5000, "at most 4096"),
        (ParameterType.STRING, {"a": 1}, "a text"),
    ],
)
def test_what_is_refused(kind: ParameterType, value: Any, says: str) -> None:
    with pytest.raises(ApiError, match=says) as refused:
        read(kind, value)
    assert refused.value.code == 431


def test_names_are_compared_without_case() -> None:
    declared = [required("zoneid", ParameterType.STRING, "")]
    assert read_arguments(declared, {"zoneId": "1"})["zoneid"] == "1"


def test_an_empty_value_is_a_missing_one() -> None:
    with pytest.raises(ApiError, match="missing parameter zoneid"):
        read_arguments([required("zoneid", ParameterType.STRING, "")], {"zoneid": ""})


def test_what_nobody_declared_is_ignored() -> None:
    assert "other" not in read_arguments([], {"other": "1"})


def test_a_choice_takes_the_spelling_of_the_table() -> None:
    assert read(ParameterType.STRING, "kvm", choices=("KVM",)) == "KVM"
    with pytest.raises(ApiError) as refused:
        read(ParameterType.STRING, "xen", choices=("KVM",))
    assert refused.value.hint == "one of KVM"


@pytest.mark.parametrize(
    ("values", "window"),
    [
        ({}, slice(0, MAX_PAGE_SIZE)),
        ({"pagesize": -1}, slice(None)),
        ({"page": 1, "pagesize": 10}, slice(0, 10)),
        ({"page": 3, "pagesize": 10}, slice(20, 30)),
    ],
)
def test_pages(values: dict[str, int], window: slice) -> None:
    assert page_window(Arguments(values)) == window


@pytest.mark.parametrize(
    "values",
    [
        {"page": 1},
        {"pagesize": 10},
        {"page": 0, "pagesize": 10},
        {"page": 1, "pagesize": 0},
        {"page": 1, "pagesize": MAX_PAGE_SIZE + 1},
        {"page": 1, "pagesize": -1},
    ],
)
def test_pages_that_cannot_be(values: dict[str, int]) -> None:
    with pytest.raises(ApiError) as refused:
        page_window(Arguments(values))
    assert refused.value.code == 431
