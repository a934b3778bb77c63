# SPDX-License-Identifier: Apache-2.0
"""Parameters are parsed alike from query strings and from JSON."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from systemvm.management.api.errors import ApiError
from systemvm.management.api.paging import MAX_PAGE_SIZE, page_window
from systemvm.management.api.parameters import (
    MAX_INTEGER,
    Arguments,
    ParameterType,
    only,
    optional,
    read_arguments,
    required,
)

PEM = "# a CA\n-----BEGIN CERTIFICATE-----\r\nAAAA\n-----END CERTIFICATE-----\n"


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
        (ParameterType.DATE, "2027-01-31", date(2027, 1, 31)),
        (ParameterType.DATE, "2027-01-31 23:59:58", datetime(2027, 1, 31, 23, 59, 58, tzinfo=UTC)),
        (ParameterType.DATE, "2027-01-31T01:00:00+0100", datetime(2027, 1, 31, tzinfo=UTC)),
        (ParameterType.MAP, {"a": 1, "b": True}, {"a": "1", "b": "true"}),
        (ParameterType.MAP, [{"a": "1"}, {"b": "2"}], {"a": "1", "b": "2"}),
        (ParameterType.MAP, {"a": PEM}, {"a": PEM}),
        (ParameterType.STRING, "", None),
        (ParameterType.BOOLEAN, None, None),
    ],
)
def test_values_are_parsed_by_type(kind: ParameterType, value: Any, expected: Any) -> None:
    assert read(kind, value) == expected


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (ParameterType.BOOLEAN, "yes", "true or false"),
        (ParameterType.INTEGER, "1.5", "a whole number"),
        (ParameterType.INTEGER, True, "a whole number"),
        (ParameterType.UUID, "1", "a UUID"),
        (ParameterType.STRING, "a\nb", "control characters"),
        (ParameterType.STRING, "a" * 5000, "at most 4096"),
        (ParameterType.STRING, {"a": 1}, "a string"),
        (ParameterType.DATE, "tomorrow", "a date such as"),
        (ParameterType.DATE, "2027-13-01", "a date such as"),
        (ParameterType.DATE, "9999-12-31", "1970 to 9998"),
        (ParameterType.DATE, "0001-01-01T00:00:00+1200", "1970 to 9998"),
        (ParameterType.MAP, "a", "a map"),
        (ParameterType.MAP, {"a": "1\n2"}, "free of control characters"),
        (ParameterType.MAP, {"a": PEM + "\0"}, "free of control characters"),
        (ParameterType.MAP, {"a": PEM * 10_000}, "PEM of at most"),
        (ParameterType.MAP, [{"a": "1"}, {"a": "2"}], "a duplicate of the key a"),
    ],
)
def test_invalid_values_are_rejected(kind: ParameterType, value: Any, message: str) -> None:
    with pytest.raises(ApiError, match=message) as refused:
        read(kind, value)
    assert refused.value.code == 431


@pytest.mark.parametrize("sent", [{}, {"state": ""}, {"state": "Gone"}, {"state": "Up", "size": "large"}])
def test_an_error_has_the_parameter_that_was_refused(sent: dict[str, str]) -> None:
    declared = [
        required("state", ParameterType.STRING, "", choices=["Up", "Down"]),
        optional("size", ParameterType.INTEGER, ""),
    ]
    with pytest.raises(ApiError) as refused:
        read_arguments(declared, sent)
    assert refused.value.body["parameter"] == ("size" if "size" in sent else "state")


def test_names_are_compared_without_case() -> None:
    declared = [required("zoneid", ParameterType.STRING, "")]
    assert read_arguments(declared, {"zoneId": "1"})["zoneid"] == "1"


def test_empty_value_counts_as_missing() -> None:
    with pytest.raises(ApiError, match="missing parameter zoneid"):
        read_arguments([required("zoneid", ParameterType.STRING, "")], {"zoneid": ""})


def test_empty_value_is_one_where_it_clears() -> None:
    declared = [optional("tags", ParameterType.STRING, "", clears=True)]
    assert read_arguments(declared, {"tags": ""})["tags"] == ""
    assert "tags" not in read_arguments(declared, {})


@pytest.mark.parametrize("name", ["other", "projectid", "details[0].x", "account[0].x", "signatur", ""])
def test_undeclared_parameter_is_rejected_by_name(name: str) -> None:
    declared = [optional("account", ParameterType.STRING, "")]
    with pytest.raises(ApiError) as refused:
        read_arguments(declared, {name: "1"}, "listZones")
    assert refused.value.code == 431
    assert refused.value.message == f"listZones does not support the parameter {name} in this release"
    assert "name=listZones" in refused.value.hint


def test_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(ApiError) as refused:
        read_arguments([optional("zoneid", ParameterType.UUID, "")], {"zone_id": "1"})
    assert refused.value.hint.startswith("use zoneid")


def test_parameters_that_clients_add_are_ignored() -> None:
    added = {
        "command": "listZones",
        "response": "json",
        "apiKey": "k",
        "signature": "s",
        "signatureVersion": "3",
        "expires": "2027-01-01T00:00:00+0000",
        "sessionkey": "x",
        "ctxUserId": "2",
        "_": "1700000000000",
    }
    assert read_arguments([], added).get("command") is None


def test_map_is_read_from_indexed_names() -> None:
    declared = [optional("details", ParameterType.MAP, "")]
    sent = {"Details[1].b": "2", "details[0].rootdisksize": "5"}
    assert read_arguments(declared, sent)["details"] == {"rootdisksize": "5", "b": "2"}


def test_map_given_twice_is_rejected() -> None:
    declared = [optional("details", ParameterType.MAP, "")]
    with pytest.raises(ApiError, match="details is given twice: as a whole and by its entries"):
        read_arguments(declared, {"details": "x", "details[0].rootdisksize": "5"})


def test_unsupported_value_is_rejected_by_name() -> None:
    declared = [only("isrouting", ParameterType.BOOLEAN, "", False)]
    assert read_arguments(declared, {"isrouting": "FALSE"})["isrouting"] is False
    with pytest.raises(ApiError, match="isrouting=true is not supported in this release, only false"):
        read_arguments(declared, {"isrouting": "true"})


def test_literal_is_accepted_for_any_type() -> None:
    assert read(ParameterType.UUID, "-1", literals=("-1",)) == "-1"
    with pytest.raises(ApiError, match="a UUID"):
        read(ParameterType.UUID, "-2", literals=("-1",))


def test_each_item_of_a_list_must_be_a_choice() -> None:
    assert read(ParameterType.LIST, "ALL,min", choices=("all", "min")) == ["all", "min"]
    with pytest.raises(ApiError, match="'most'"):
        read(ParameterType.LIST, "all,most", choices=("all", "min"))


def test_choice_gets_the_declared_spelling() -> None:
    assert read(ParameterType.STRING, "kvm", choices=("KVM",)) == "KVM"
    with pytest.raises(ApiError) as refused:
        read(ParameterType.STRING, "xen", choices=("KVM",))
    assert refused.value.hint == "choose one of KVM"


@pytest.mark.parametrize(
    ("values", "window"),
    [
        ({}, slice(0, MAX_PAGE_SIZE)),
        ({"pagesize": -1}, slice(None)),
        ({"page": 1, "pagesize": 10}, slice(0, 10)),
        ({"page": 3, "pagesize": 10}, slice(20, 30)),
        ({"page": 0, "pagesize": 10}, slice(0, 10)),
    ],
)
def test_page_window_follows_page_and_pagesize(values: dict[str, int], window: slice) -> None:
    assert page_window(Arguments(values)) == window


@pytest.mark.parametrize(
    "values",
    [
        {"page": 1},
        {"pagesize": 10},
        {"page": -1, "pagesize": 10},
        {"page": 1, "pagesize": 0},
        {"page": 1, "pagesize": MAX_PAGE_SIZE + 1},
        {"page": 1, "pagesize": -1},
        {"page": MAX_INTEGER, "pagesize": MAX_PAGE_SIZE},
    ],
)
def test_invalid_pages_are_rejected(values: dict[str, int]) -> None:
    with pytest.raises(ApiError) as refused:
        page_window(Arguments(values))
    assert refused.value.code == 431
