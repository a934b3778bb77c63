# SPDX-License-Identifier: Apache-2.0
"""The layout of results and errors, as JSON or XML, as CloudStack writes it (reference 5.2, 5.3)."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

import attrs
import msgspec

from systemvm.management.api.command import Command, ResponseShape, ResultPage
from systemvm.management.api.errors import ApiError

CONTENT_TYPES = {"json": "application/json; charset=utf-8", "xml": "text/xml; charset=utf-8"}
_XML_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


#: Values that are written as they are. Most values of an answer are, so this is asked first.
_SCALARS = frozenset({str, int, bool, float, type(None)})


def plain(value: Any) -> Any:
    """Return an answer as JSON values: keys without a value are left out, times have CloudStack's format."""
    if type(value) in _SCALARS:
        return value
    answer_class: Any = type(value)
    keys = _keys_of(answer_class)
    if keys is not None:
        return {
            key: item if type(item) in _SCALARS else plain(item)
            for key, name in keys
            if (item := getattr(value, name)) is not None
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%S%z")
    return value


@functools.cache
def _keys_of(answer: Any) -> list[tuple[str, str]] | None:
    """Return the keys of an answer's class with the names of their attributes; None for other classes."""
    if not attrs.has(answer):
        return None
    return [(field.metadata.get("key", field.name), field.name) for field in attrs.fields(answer)]


def result_body(command: Command, result: Any) -> dict[str, Any]:
    """Return what is under `<command>response`; an empty list is `{}`, as CloudStack's clients expect."""
    match command.shape:
        case ResponseShape.LIST:
            page = result if isinstance(result, ResultPage) else ResultPage(result, len(result))
            if not page.count:
                return {}
            return {"count": page.count, command.object_name: plain(page.rows)}
        case ResponseShape.OBJECT:
            return {command.object_name: plain(result)}
        case ResponseShape.ASYNC | ResponseShape.BARE:
            body: dict[str, Any] = plain(result)
            return body


def answer(command: Command, result: Any) -> dict[str, Any]:
    return {command.response_name: result_body(command, result)}


def error_answer(command: Command | None, error: ApiError) -> dict[str, Any]:
    """Return an error under the command's own name, or under `errorresponse` for an unknown command."""
    return {command.response_name if command else "errorresponse": error.body}


def write(document: dict[str, Any], form: str) -> bytes:
    """Serialize a document as JSON or XML."""
    if form == "json":
        return msgspec.json.encode(document)
    [(name, body)] = document.items()
    return f'<?xml version="1.0" encoding="UTF-8"?>{_element(name, body)}'.encode()


def _element(name: str, value: Any) -> str:
    """Return an XML element; a list repeats it, as in CloudStack. Names come from our own tables only."""
    if isinstance(value, list):
        return "".join(_element(name, item) for item in value)
    if isinstance(value, dict):
        return f"<{name}>{''.join(_element(key, item) for key, item in value.items())}</{name}>"
    if isinstance(value, bool):
        value = str(value).lower()
    return f"<{name}>{escape(_XML_FORBIDDEN.sub('', str(value)))}</{name}>"
