# SPDX-License-Identifier: Apache-2.0
"""The method table: which roles may call which methods, with which parameters."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from systemvm.rpc.core.errors import FORBIDDEN, INVALID_PARAMS, METHOD_NOT_FOUND, RpcError
from systemvm.rpc.core.method import Call, Caller, MethodTable
from systemvm.wire.storage import DownloadRequest, DownloadStatus


@frozen
class Sum:
    left: int
    right: int = 0


async def _add(call: Call, params: Sum) -> int:
    return params.left + params.right


async def _caller(call: Call, params: None) -> str:
    return f"{call.caller.name} {call.request_id}"


def _table() -> MethodTable:
    table = MethodTable("a test", "1")
    table.add("add", _add, params=Sum, result=int, roles=frozenset({"ssvm"}), summary="Add two numbers")
    table.add("caller", _caller, params=None, result=str, roles=frozenset({"ssvm", "cpvm"}), deadline_s=5)
    return table


def _dispatch(name: str, params: object = None, role: str = "ssvm") -> Any:
    call = Call(Caller("s-1-VM", role), "r-1", None)
    results: list[Any] = []
    Deferred.fromCoroutine(_table().dispatch(call, name, params)).addBoth(results.append)
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


def test_parameters_are_converted_and_defaults_applied() -> None:
    assert _dispatch("add", {"left": 1, "right": 2}) == 3
    assert _dispatch("add", {"left": 1, "a later version's": True}) == 1
    assert _dispatch("caller") == "s-1-VM r-1"
    assert _dispatch("caller", {}) == "s-1-VM r-1"


@pytest.mark.parametrize(
    "name,params",
    [
        ("add", None),
        ("add", {"left": "1"}),
        ("add", [1, 2]),
        ("add", []),
        ("caller", {"x": 1}),
        ("caller", [1]),
    ],
)
def test_invalid_parameters_are_refused_with_a_hint(name: str, params: object) -> None:
    with pytest.raises(RpcError) as caught:
        _dispatch(name, params)
    assert caught.value.code == INVALID_PARAMS
    assert caught.value.hint


def test_an_unknown_method_is_not_found() -> None:
    with pytest.raises(RpcError) as caught:
        _dispatch("nothing")
    assert caught.value.code == METHOD_NOT_FOUND


def test_a_role_without_permission_is_refused() -> None:
    with pytest.raises(RpcError) as caught:
        _dispatch("add", {"left": 1}, role="cpvm")
    assert caught.value.code == FORBIDDEN
    assert "ssvm" in caught.value.hint


def test_a_method_name_is_unique_and_not_reserved() -> None:
    table = _table()
    with pytest.raises(ValueError, match="registered already"):
        table.add("add", _add, params=Sum, result=int, roles=frozenset())
    with pytest.raises(ValueError, match="reserved for JSON-RPC"):
        table.add("rpc.mine", _add, params=Sum, result=int, roles=frozenset())


def test_a_copy_is_extended_independently() -> None:
    table = _table()
    copy = table.copy()
    copy.add("more", _caller, params=None, result=str, roles=frozenset())
    assert {method.name for method in copy} - {method.name for method in table} == {"more"}


def test_discover_describes_types_roles_and_deadlines() -> None:
    document = _dispatch("rpc.discover", role="cpvm")
    assert document["openrpc"].startswith("1.")
    methods = {method["name"]: method for method in document["methods"]}
    assert list(methods) == ["add", "caller", "rpc.discover", "rpc.ping"]
    assert methods["add"]["params"] == [
        {"name": "left", "required": True, "schema": {"type": "integer"}},
        {"name": "right", "required": False, "schema": {"type": "integer", "default": 0}},
    ]
    assert methods["add"]["x-roles"] == ["ssvm"]
    assert methods["caller"]["x-deadline-s"] == 5


def test_discover_shares_schemas_of_nested_messages() -> None:
    table = _table()
    table.add(
        "template.download",
        _add,
        params=DownloadRequest,
        result=DownloadStatus,
        roles=frozenset({"management"}),
    )
    document = table.discover()
    assert "Store" in document["components"]["schemas"]
    (method,) = [each for each in document["methods"] if each["name"] == "template.download"]
    store = next(each for each in method["params"] if each["name"] == "store")
    assert store["schema"] == {"$ref": "#/components/schemas/Store"}
