# SPDX-License-Identifier: Apache-2.0
"""Parameters of API commands: declared once, parsed from query text or JSON, described by listApis."""

from __future__ import annotations

import base64
import difflib
import enum
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any

from attrs import frozen

from systemvm.management.api.errors import ApiError, ErrorCode

MAX_TEXT_LENGTH = 4096
MAX_PEM_LENGTH = 64 * 1024
MAX_BASE64_LENGTH = 32 * 1024  # CloudStack's vm.userdata.max.length
MAX_MAP_ENTRIES = 100
MAX_TAG_LENGTH = 255
MAX_INTEGER = (1 << 63) - 1  # of a column
EVERY_ZONE = "-1"  # CloudStack's zoneid for all zones

#: Names that clients add to every call, for its format and its signature. No other name is ignored.
ADDED_BY_CLIENTS = frozenset({"command", "response", "apikey", "expires", "sessionkey", "_"})
PREFIXES_ADDED_BY_CLIENTS = ("signature", "ctx")  # signatureVersion, signatureMethod; ctxUserId

#: Of a command that gives no reasons for parameters that it refuses.
NO_REASONS: Mapping[str, str] = MappingProxyType({})

#: `details[0].key`, as CloudStack's clients write maps; the number only distinguishes entries.
_MAP_NAME = re.compile(r"(?P<name>[A-Za-z0-9_]+)\[(?P<index>\d{1,4})\]\.(?P<key>.+)")
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_PEM_BEGIN = "-----BEGIN "
MIN_YEAR, MAX_YEAR = 1970, 9998  # one day more is still a valid date in every time zone
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
    text = "" if isinstance(value, bool) else str(value)
    if not _INTEGER.fullmatch(text) or abs(int(text)) > MAX_INTEGER:
        raise ValueError("a whole number of at most 64 bits")
    return int(text)


def _uuid(value: Any) -> str:
    try:
        return str(uuid.UUID(str(value)))
    except ValueError:
        raise ValueError("a UUID") from None


def _text(value: Any, allowed: str = "") -> str:
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise ValueError("a string")
    text = str(value)
    if len(text) > MAX_TEXT_LENGTH:
        raise ValueError(f"at most {MAX_TEXT_LENGTH} characters long")
    if any(character < " " and character not in allowed for character in text):
        raise ValueError("free of control characters")
    return text


def _base64(value: Any) -> str:
    """Read base64, without the blanks and line feeds that it can have."""
    text = "".join(value.split()) if isinstance(value, str) else "?"
    if len(text) > MAX_BASE64_LENGTH:
        raise ValueError(f"base64 of at most {MAX_BASE64_LENGTH} characters")
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("base64") from None
    return text


def _lines(value: Any) -> str:
    return _text(value, "\n\t")


def _pem(value: Any) -> str:
    text = str(value)
    if len(text) > MAX_PEM_LENGTH:
        raise ValueError(f"PEM of at most {MAX_PEM_LENGTH} characters")
    return text


def _list(value: Any) -> list[str]:
    items = value if isinstance(value, list) else str(value).split(",")
    return [_text(item).strip() for item in items if _text(item).strip()]


def _date(value: Any) -> date | datetime:
    """Read a day, or a time, which is in UTC unless it has a time zone."""
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


def _map_value(value: Any) -> str:
    """Read a string of one line, or a PEM, which has several."""
    if isinstance(value, str) and _PEM_BEGIN in value:
        if any(character < " " and character not in "\t\r\n" for character in value):
            raise ValueError("free of control characters")
        return _pem(value)
    return _text(value)


def _map(value: Any) -> dict[str, str]:
    """Read one object, or several that are merged; values are strings and numbers."""
    parts = value if isinstance(value, list) else [value]
    merged: dict[str, str] = {}
    for part in parts:
        if not isinstance(part, Mapping):
            raise ValueError("a map, written as name[0].key=value")
        for key, item in part.items():
            if key in merged:
                raise ValueError(f"a map without a duplicate of the key {key}")
            merged[key] = str(item).lower() if isinstance(item, bool) else _map_value(item)
    if len(merged) > MAX_MAP_ENTRIES:
        raise ValueError(f"a map of at most {MAX_MAP_ENTRIES} entries")
    return merged


def _tags(value: Any) -> dict[str, str | None]:
    """Read a list of keys and values; a value can be missing where tags are only named."""
    found: dict[str, str | None] = {}
    for part in value if isinstance(value, list) else [value]:
        if not isinstance(part, Mapping) or not part.get("key") or part.keys() - {"key", "value"}:
            raise ValueError("tags, written as name[0].key=key and name[0].value=value")
        key = _text(part["key"])
        if key in found:
            raise ValueError(f"tags without a duplicate of the key {key}")
        found[key] = _text(part["value"]) if "value" in part else None
        if max(len(key), len(found[key] or "")) > MAX_TAG_LENGTH:
            raise ValueError(f"tags of at most {MAX_TAG_LENGTH} characters")
    if len(found) > MAX_MAP_ENTRIES:
        raise ValueError(f"at most {MAX_MAP_ENTRIES} tags")
    return found


def _maps(value: Any) -> list[dict[str, str]]:
    """Read a list of objects with texts."""
    parts = value if isinstance(value, list) else [value]
    if len(parts) > MAX_MAP_ENTRIES or not all(isinstance(part, Mapping) for part in parts):
        raise ValueError(f"a list of at most {MAX_MAP_ENTRIES} maps, written as name[0].key=value")
    return [{str(key): _text(item) for key, item in part.items()} for part in parts]


class ParameterType(enum.Enum):
    """CloudStack's types of parameters, each with its parser and its Python type for JSON-RPC's schema."""

    STRING = "string"
    UUID = "uuid"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    LIST = "list"
    DATE = "date"
    MAP = "map"
    TAGS = "tags"  # tags[0].key=name and tags[0].value=text
    PEM = "pem"
    LINES = "lines"  # a text with line feeds and tabs
    BASE64 = "base64"
    MAPS = "maps"  # name[0].one=text and name[0].other=text, name[1].one=…

    @property
    def api_name(self) -> str:
        """The name in listApis: CloudStack's clients know neither PEM, lines nor base64."""
        is_text = self in (ParameterType.PEM, ParameterType.LINES, ParameterType.BASE64)
        if self in (ParameterType.TAGS, ParameterType.MAPS):
            return ParameterType.MAP.value
        return ParameterType.STRING.value if is_text else self.value

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
    ParameterType.TAGS: _tags,
    ParameterType.PEM: _pem,
    ParameterType.LINES: _lines,
    ParameterType.BASE64: _base64,
    ParameterType.MAPS: _maps,
}
_PYTHON_TYPES: dict[ParameterType, Any] = {
    ParameterType.STRING: str,
    ParameterType.UUID: str,
    ParameterType.BOOLEAN: bool,
    ParameterType.INTEGER: int,
    ParameterType.LIST: list[str],
    ParameterType.DATE: str,
    ParameterType.MAP: dict[str, Any] | list[dict[str, Any]],
    ParameterType.TAGS: list[dict[str, str]],
    ParameterType.PEM: str,
    ParameterType.LINES: str,
    ParameterType.BASE64: str,
    ParameterType.MAPS: list[dict[str, str]],
}


@frozen
class Parameter:
    """A parameter of a command."""

    name: str
    type: ParameterType
    description: str
    required: bool = False
    choices: tuple[str, ...] = ()  # compared without case; the value becomes the spelling given here
    literals: tuple[str, ...] = ()  # values that are accepted as they are, whatever the type
    only: tuple[Any, ...] = ()  # the values that are supported; any other is rejected
    clears: bool = False  # an empty value is one, and clears what there was

    def read(self, value: Any) -> Any:
        """Parse a value.

        Raises: ApiError 431 that names the parameter and what it must be.
        """
        if str(value) in self.literals:
            return str(value)
        try:
            typed = self.type.read(value)
        except ValueError as error:
            raise ApiError(
                ErrorCode.PARAMETER,
                f"Invalid value for parameter {self.name}: it must be {error}",
                parameter=self.name,
            ) from None
        if self.only and _to_text(typed).lower() not in [_to_text(value).lower() for value in self.only]:
            served = " or ".join(_to_text(value) for value in self.only)
            raise ApiError(
                ErrorCode.PARAMETER,
                f"{self.name}={_to_text(typed)} is not supported in this release, only {served}",
                f"omit {self.name}, or send {self.name}={served}",
                parameter=self.name,
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
            f"choose one of {', '.join(self.choices)}",
            parameter=self.name,
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
    clears: bool = False,
) -> Parameter:
    return Parameter(name, type, description, choices=tuple(choices), literals=tuple(literals), clears=clears)


def only(name: str, type: ParameterType, description: str, *values: Any) -> Parameter:
    """Declare a parameter that must have one of these values, if a client sends it: clients send defaults."""
    return Parameter(name, type, f"{description}: only {_to_text(values[0])} is supported", only=values)


def _to_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)[:64]


class Arguments:
    """The parsed parameters of one call, by declared name."""

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

    def name_of(self, value: str) -> str:
        """Return the name of the parameter that has a value, alone or in a list; empty when none has it."""
        for name, given in self._values.items():
            if given == value or (isinstance(given, list) and value in given):
                return name
        return ""


def named_uuids(arguments: Arguments) -> frozenset[str] | None:
    """Return the UUIDs that a list is limited to by `id` and `ids`; None when it has neither."""
    sets = [{arguments["id"]}] if "id" in arguments else []
    sets += [set(arguments["ids"])] if "ids" in arguments else []
    return frozenset(set.intersection(*sets)) if sets else None


def read_arguments(
    declared: Iterable[Parameter],
    raw: Mapping[str, Any],
    command_name: str = "this command",
    refused: Mapping[str, str] = NO_REASONS,
) -> Arguments:
    """Parse the parameters of a call. An empty value counts as missing, as in CloudStack, unless it clears.

    An undeclared name is an error, unless clients add it to every call; `refused` has reasons by name.
    CloudStack ignores such names, and so does something else than the caller asked for.

    Raises: ApiError 431 for an undeclared name, a missing parameter or an invalid value.
    """
    by_name = {parameter.name.lower(): parameter for parameter in declared}
    sent = _sent(raw, by_name, command_name, refused)
    values: dict[str, Any] = {}
    for parameter in by_name.values():
        value = sent.get(parameter.name.lower())
        if value is None or (value == "" and not parameter.clears):
            if parameter.required:
                raise ApiError(
                    ErrorCode.PARAMETER,
                    f"Unable to execute API command due to missing parameter {parameter.name}",
                    parameter=parameter.name,
                )
            continue
        values[parameter.name] = parameter.read(value)
    return Arguments(values)


def _sent(
    raw: Mapping[str, Any], by_name: Mapping[str, Parameter], command_name: str, refused: Mapping[str, str]
) -> dict[str, Any]:
    """Return what was sent, by lower-case name, with the entries of each map in one list."""
    sent: dict[str, Any] = {}
    maps: dict[str, dict[int, dict[str, Any]]] = {}
    for name, value in raw.items():
        lower = name.lower()
        if lower in by_name:
            sent[lower] = value
        elif (entry := _MAP_NAME.fullmatch(name)) and _is_map(by_name.get(entry["name"].lower())):
            entries = maps.setdefault(entry["name"].lower(), {})
            entries.setdefault(int(entry["index"]), {})[entry["key"]] = value
        elif not is_added_by_clients(lower):
            raise _unknown(name, by_name, command_name, refused.get(lower))
    for name in sent.keys() & maps.keys():
        raise ApiError(
            ErrorCode.PARAMETER,
            f"parameter {name} is given twice: as a whole and by its entries",
            f"send either {name} or {name}[0].key",
            parameter=by_name[name].name,
        )
    return sent | {name: [entries[index] for index in sorted(entries)] for name, entries in maps.items()}


def is_added_by_clients(lower_name: str) -> bool:
    """Return whether a parameter belongs to the call's format or signature, and not to its command."""
    return lower_name in ADDED_BY_CLIENTS or lower_name.startswith(PREFIXES_ADDED_BY_CLIENTS)


def _is_map(parameter: Parameter | None) -> bool:
    return parameter is not None and parameter.type in (ParameterType.MAP, ParameterType.TAGS)


def _unknown(name: str, by_name: Mapping[str, Parameter], command_name: str, why: str | None) -> ApiError:
    near = difflib.get_close_matches(name.lower(), by_name, 1, 0.8) if why is None else []
    hint = f"use {by_name[near[0]].name}" if near else "omit it"
    reason = "" if why is None else f": {why}"
    return ApiError(
        ErrorCode.PARAMETER,
        f"{command_name} does not support the parameter {name[:64]} in this release{reason}",
        f"{hint}, or call listApis with name={command_name} for the supported parameters",
        parameter=name[:64],
    )
