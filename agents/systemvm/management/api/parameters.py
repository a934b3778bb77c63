# SPDX-License-Identifier: Apache-2.0
"""Parameters of API commands: declared once, parsed from query text or JSON, described by listApis."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from attrs import frozen

from systemvm.management.api.errors import ApiError, ErrorCode

MAX_TEXT_LENGTH = 4096

T = TypeVar("T")


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


class ParameterType(enum.Enum):
    """CloudStack's types of parameters, with how each is read and which Python type JSON-RPC shows for it."""

    STRING = "string"
    UUID = "uuid"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    LIST = "list"

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
}
_PYTHON_TYPES: dict[ParameterType, Any] = {
    ParameterType.STRING: str,
    ParameterType.UUID: str,
    ParameterType.BOOLEAN: bool,
    ParameterType.INTEGER: int,
    ParameterType.LIST: list[str],
}


@frozen
class Parameter:
    """One named input of a command."""

    name: str
    type: ParameterType
    description: str
    required: bool = False
    choices: tuple[str, ...] = ()  # compared without case; the value becomes the spelling given here

    def read(self, value: Any) -> Any:
        """The typed value; ApiError 430 or 431 that names the parameter and what it should have been."""
        try:
            typed = self.type.read(value)
        except ValueError as error:
            raise ApiError(
                ErrorCode.PARAMETER, f"Invalid value for parameter {self.name}: it must be {error}"
            ) from None
        if not self.choices:
            return typed
        for choice in self.choices:
            if str(typed).lower() == choice.lower():
                return choice
        raise ApiError(
            ErrorCode.PARAMETER,
            f"Invalid value for parameter {self.name}: {typed!r}",
            f"one of {', '.join(self.choices)}",
        )


def required(name: str, type: ParameterType, description: str, *, choices: Iterable[str] = ()) -> Parameter:
    return Parameter(name, type, description, required=True, choices=tuple(choices))


def optional(name: str, type: ParameterType, description: str, *, choices: Iterable[str] = ()) -> Parameter:
    return Parameter(name, type, description, choices=tuple(choices))


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


def read_arguments(declared: Iterable[Parameter], raw: Mapping[str, Any]) -> Arguments:
    """Type what was sent; an empty value counts as not sent, and parameters that nobody declared are ignored,
    both as in CloudStack, whose clients send more than a server of another version knows."""
    sent = {name.lower(): value for name, value in raw.items()}
    values: dict[str, Any] = {}
    for parameter in declared:
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
