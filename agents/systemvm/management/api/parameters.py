# SPDX-License-Identifier: Apache-2.0
"""Parameters of API commands: declared once, parsed from query text or JSON, described by listApis."""

from __future__ import annotations

import difflib
import enum
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

from attrs import frozen

from systemvm.management.api.errors import ApiError, ErrorCode

MAX_TEXT_LENGTH = 4096
MAX_MAP_ENTRIES = 100
EVERY_ZONE = "-1"  # CloudStack's zoneid of what is in all zones

#: What clients add to whatever they call: how to answer, and who signs. No other name is ignored.
ADDED_BY_CLIENTS = frozenset({"command", "response", "apikey", "expires", "sessionkey", "_"})
PREFIXES_ADDED_BY_CLIENTS = ("signature", "ctx")  # signatureVersion, signatureMethod; ctxUserId

#: `details[0].key`, as CloudStack's clients write maps; the number only keeps entries apart.
_MAP_NAME = re.compile(r"(?P<name>[A-Za-z0-9_]+)\[(?P<index>\d{1,4})\]\.(?P<key>.+)")
MIN_YEAR, MAX_YEAR = 1970, 9998  # a day more, in any time zone, can still be reckoned with
_DATE_IS = "a date such as 2027-01-31 or 2027-01-31 23:59:59"
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in ("true", "false"):
        return text == "true"
    raise ValueError("true or false")


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise ValueError("a whole number")
    try:
        return int(str(value))
    except ValueError:
        raise ValueError("a whole number") from None


def _uuid(value: Any) -> str:
    try:
        return str(uuid.UUID(str(value)))
    except ValueError:
        raise ValueError("a UUID") from None


def _text(value: Any) -> str:
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise ValueError("a text")
    text = str(value)
    if len(text) > MAX_TEXT_LENGTH:
        raise ValueError(f"at most {MAX_TEXT_LENGTH} characters long")
    if any(character < " " for character in text):
        raise ValueError("free of control characters")
    return text


def _list(value: Any) -> list[str]:
    words = value if isinstance(value, list) else str(value).split(",")
    return [_text(word).strip() for word in words if _text(word).strip()]


def _date(value: Any) -> date | datetime:
    """A day, or a moment, which is UTC unless it names a time zone, as all times of this API are."""
    text = _text(value)
    try:
        when = date.fromisoformat(text) if _DAY.fullmatch(text) else datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(_DATE_IS) from None
    if not MIN_YEAR <= when.year <= MAX_YEAR:
        raise ValueError(f"{_DATE_IS}, of the years {MIN_YEAR} to {MAX_YEAR}")
    if isinstance(when, datetime) and when.tzinfo is None:
        return when.replace(tzinfo=UTC)
    return when


def _map(value: Any) -> dict[str, str]:
    """One object, or several whose keys are put together; texts and numbers are values."""
    parts = value if isinstance(value, list) else [value]
    merged: dict[str, str] = {}
    for part in parts:
        if not isinstance(part, Mapping):
            raise ValueError("a map, written as name[0].key=value")
        for key, item in part.items():
            if key in merged:
                raise ValueError(f"a map that has the key {key} once")
            merged[key] = str(item).lower() if isinstance(item, bool) else _text(item)
    if len(merged) > MAX_MAP_ENTRIES:
        raise ValueError(f"a map of at most {MAX_MAP_ENTRIES} entries")
    return merged


class ParameterType(enum.Enum):
    """CloudStack's types of parameters, with how each is read and which Python type JSON-RPC shows for it."""

    STRING = "string"
    UUID = "uuid"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    LIST = "list"
    DATE = "date"
    MAP = "map"

    @property
    def read(self) -> Callable[[Any], Any]:
        return _READERS[self]

    @property
    def python_type(self) -> Any:
        return _PYTHON_TYPES[self]


_READERS: dict[ParameterType, Callable[[Any], Any]] = {
    ParameterType.STRING: _text,
    ParameterType.UUID: _uuid,
    ParameterType.BOOLEAN: _boolean,
    ParameterType.INTEGER: _integer,
    ParameterType.LIST: _list,
    ParameterType.DATE: _date,
    ParameterType.MAP: _map,
}
_PYTHON_TYPES: dict[ParameterType, Any] = {
    ParameterType.STRING: str,
    ParameterType.UUID: str,
    ParameterType.BOOLEAN: bool,
    ParameterType.INTEGER: int,
    ParameterType.LIST: list[str],
    ParameterType.DATE: str,
    ParameterType.MAP: dict[str, Any] | list[dict[str, Any]],
}


@frozen
class Parameter:
    """One named input of a command."""

    name: str
    type: ParameterType
    description: str
    required: bool = False
    choices: tuple[str, ...] = ()  # compared without case; the value becomes the spelling given here
    literals: tuple[str, ...] = ()  # values that are taken as they are, whatever the type says
    only: tuple[Any, ...] = ()  # values that say what happens anyway; any other is refused by name

    def read(self, value: Any) -> Any:
        """The typed value; ApiError 430 or 431 that names the parameter and what it should have been."""
        if str(value) in self.literals:
            return str(value)
        try:
            typed = self.type.read(value)
        except ValueError as error:
            raise ApiError(
                ErrorCode.PARAMETER, f"Invalid value for parameter {self.name}: it must be {error}"
            ) from None
        if self.only and _shown(typed).lower() not in [_shown(value).lower() for value in self.only]:
            served = " or ".join(_shown(value) for value in self.only)
            raise ApiError(
                ErrorCode.PARAMETER,
                f"{self.name}={_shown(typed)} is not supported in this release: only {served} is",
                f"leave {self.name} out, or send {self.name}={served}",
            )
        if not self.choices:
            return typed
        if isinstance(typed, list):
            return [self._choice(word) for word in typed]
        return self._choice(typed)

    def _choice(self, typed: Any) -> str:
        for choice in self.choices:
            if str(typed).lower() == choice.lower():
                return choice
        raise ApiError(
            ErrorCode.PARAMETER,
            f"Invalid value for parameter {self.name}: {typed!r}",
            f"one of {', '.join(self.choices)}",
        )


def required(
    name: str,
    type: ParameterType,
    description: str,
    *,
    choices: Iterable[str] = (),
    literals: Iterable[str] = (),
) -> Parameter:
    return Parameter(name, type, description, True, tuple(choices), tuple(literals))


def optional(
    name: str,
    type: ParameterType,
    description: str,
    *,
    choices: Iterable[str] = (),
    literals: Iterable[str] = (),
) -> Parameter:
    return Parameter(name, type, description, choices=tuple(choices), literals=tuple(literals))


def only(name: str, type: ParameterType, description: str, *values: Any) -> Parameter:
    """A parameter whose given value must be what happens anyway, because clients send their defaults."""
    return Parameter(name, type, f"{description}: only {_shown(values[0])} is supported", only=values)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)[:64]


class Arguments:
    """The parsed parameters of one call; names without case, as CloudStack takes them."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self._values.get(name, default)

    def text(self, name: str) -> str | None:
        return self._values.get(name)

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(self._values.get(name, default))


def read_arguments(
    declared: Iterable[Parameter], raw: Mapping[str, Any], command_name: str = "this command"
) -> Arguments:
    """Type what was sent. An empty value counts as not sent, as in CloudStack.

    ApiError 431 for a name that nobody declared, unless every client adds it: CloudStack ignores such names,
    and then does another thing than was asked for.
    """
    by_name = {parameter.name.lower(): parameter for parameter in declared}
    sent = _sent(raw, by_name, command_name)
    values: dict[str, Any] = {}
    for parameter in by_name.values():
        value = sent.get(parameter.name.lower())
        if value is None or value == "":
            if parameter.required:
                raise ApiError(
                    ErrorCode.PARAMETER,
                    f"Unable to execute API command due to missing parameter {parameter.name}",
                )
            continue
        values[parameter.name] = parameter.read(value)
    return Arguments(values)


def _sent(raw: Mapping[str, Any], by_name: Mapping[str, Parameter], command_name: str) -> dict[str, Any]:
    """What was sent by lower-case name, the entries of each map in one list."""
    sent: dict[str, Any] = {}
    maps: dict[str, dict[int, dict[str, Any]]] = {}
    for name, value in raw.items():
        lower = name.lower()
        if lower in by_name:
            sent[lower] = value
        elif (entry := _MAP_NAME.fullmatch(name)) and _is_map(by_name.get(entry["name"].lower())):
            entries = maps.setdefault(entry["name"].lower(), {})
            entries.setdefault(int(entry["index"]), {})[entry["key"]] = value
        elif lower not in ADDED_BY_CLIENTS and not lower.startswith(PREFIXES_ADDED_BY_CLIENTS):
            raise _unknown(name, by_name, command_name)
    for name in sent.keys() & maps.keys():
        raise ApiError(
            ErrorCode.PARAMETER,
            f"Parameter {name} is given as a whole and by its entries",
            f"send {name}, or {name}[0].key, and not both",
        )
    return sent | {name: [entries[index] for index in sorted(entries)] for name, entries in maps.items()}


def _is_map(parameter: Parameter | None) -> bool:
    return parameter is not None and parameter.type is ParameterType.MAP


def _unknown(name: str, by_name: Mapping[str, Parameter], command_name: str) -> ApiError:
    near = difflib.get_close_matches(name.lower(), by_name, 1, 0.8)
    hint = f"did you mean {by_name[near[0]].name}?" if near else "leave it out"
    return ApiError(
        ErrorCode.PARAMETER,
        f"{command_name} does not support the parameter {name[:64]} in this release",
        f"{hint}; listApis name={command_name} lists what it supports",
    )
