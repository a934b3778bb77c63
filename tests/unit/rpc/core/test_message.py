# SPDX-License-Identifier: Apache-2.0
"""Classification of messages, and responses to invalid ones."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.rpc.core.errors import INVALID_REQUEST, RpcError
from systemvm.rpc.core.message import InvalidMessage, Request, Response, read


def _request(**members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "ping", **members}


def test_a_request_keeps_its_id_and_request_id() -> None:
    assert read(_request(id=7, params={"a": 1}, request_id="r-1")) == Request("ping", {"a": 1}, 7, "r-1")


def test_a_request_without_an_id_is_a_notification() -> None:
    assert read(_request()) == Request("ping", None, None, None)


@pytest.mark.parametrize("message_id", [0, -1, 2**53 - 1, "", "abc", "x" * 128])
def test_integers_and_short_texts_are_ids(message_id: object) -> None:
    got = read(_request(id=message_id))
    assert isinstance(got, Request) and got.id == message_id


@pytest.mark.parametrize(
    "message,answered_id",
    [
        (_request(id=None), None),
        (_request(id=1.5), None),
        (_request(id=True), None),
        (_request(id=[1]), None),
        (_request(id="x" * 129), None),
        ({"method": "ping", "id": 1}, 1),
        (_request(jsonrpc="1.0", id=1), 1),
        (_request(method=3, id="a"), "a"),
        (_request(method="", id="a"), "a"),
        (_request(params=3, id=2), 2),
        (_request(params=None, id=2), 2),
        (_request(request_id=5, id=2), 2),
        (_request(request_id="x" * 129, id=2), 2),
        ({"jsonrpc": "2.0", "id": 9}, 9),
        ({}, None),
        ([], None),
        ([_request(id=1)], None),
        ("text", None),
        (None, None),
    ],
)
def test_invalid_requests_are_answered(message: object, answered_id: object) -> None:
    with pytest.raises(InvalidMessage) as caught:
        read(message)
    answer = caught.value.answer
    assert answer is not None and answer.error is not None
    assert (answer.id, answer.error.code) == (answered_id, INVALID_REQUEST)


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "result": 1},
        {"jsonrpc": "2.0", "id": 1, "result": 1, "error": {"code": 1, "message": "x"}},
        {"jsonrpc": "2.0", "id": 1, "error": "text"},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": "1", "message": "x"}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": True, "message": "x"}},
        {"id": 1, "result": 1},
    ],
)
def test_an_invalid_response_is_not_answered(message: object) -> None:
    with pytest.raises(InvalidMessage) as caught:
        read(message)
    assert caught.value.answer is None


def test_responses_survive_encoding() -> None:
    for answer in (Response(1, result={"a": None}), Response("x", result=None)):
        assert read(answer.to_wire()) == answer
    failed = read(Response(2, error=RpcError(-5, "no", {"hint": "do"})).to_wire())
    assert isinstance(failed, Response) and failed.error is not None
    assert (failed.error.code, failed.error.message, failed.error.hint) == (-5, "no", "do")


@given(
    st.dictionaries(
        st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "request_id"]),
        st.sampled_from(["2.0", 1, None, True, {}, [], "ping", 1.5, {"code": 1, "message": "m"}]),
    )
)
def test_any_object_is_read_or_refused(message: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidMessage):
        assert isinstance(read(message), Request | Response)
