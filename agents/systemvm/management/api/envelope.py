# SPDX-License-Identifier: Apache-2.0
"""The layout of results and errors, as JSON or XML, as CloudStack writes it (reference 5.2, 5.3)."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from operator import attrgetter
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
    """Return an answer as JSON values: keys without a value are left out, times have CloudStack's format.

    A page of 500 rows has some 20,000 values, so classes are compared before anything is looked up by ABC.
    """
    kind: Any = type(value)
    if kind in _SCALARS:
        return value
    if kind is list or kind is tuple:
        return [plain(item) for item in value]
    if kind is datetime:
        return _moment(value)
    if kind is dict:
        return {str(key): plain(item) for key, item in value.items() if item is not None}
    read = _reader_of(kind)
    if read is not None:
        keys, values_of = read
        return {
            key: item if type(item) in _SCALARS else plain(item)
            for key, item in zip(keys, values_of(value), strict=True)
            if item is not None
        }
    if isinstance(value, Mapping):
        return plain(dict(value))
    if isinstance(value, (list, tuple)):
        return plain(list(value))
    return value


def _moment(moment: datetime) -> str:
    """Return a time as `%Y-%m-%dT%H:%M:%S%z`, in a tenth of the time of strftime."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    text = moment.isoformat(timespec="seconds")
    return f"{text[:-3]}{text[-2:]}"


@functools.cache
def _reader_of(answer: Any) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]] | None:
    """Return the keys of an answer's class, and what reads their values; None for other classes."""
    if not attrs.has(answer):
        return None
    fields = attrs.fields(answer)
    names = [field.name for field in fields]
    # attrgetter returns a tuple only for several names
    values_of = (
        attrgetter(*names) if len(names) > 1 else lambda value: tuple(getattr(value, n) for n in names)
    )
    return tuple(field.metadata.get("key", field.name) for field in fields), values_of


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


def written_answer(command: Command, result: Any, form: str) -> bytes:
    """Serialize a result as JSON or XML; rows that are JSON already are not written again."""
    if form == "json" and isinstance(result, ResultPage) and result.json:
        body = {"count": result.count, command.object_name: result.json}
        return msgspec.json.encode({command.response_name: body})
    return write(answer(command, result), form)


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
