# SPDX-License-Identifier: Apache-2.0
"""YAML files as frozen values: strict about types, and a key that nobody knows is an error with its place."""

from __future__ import annotations

import difflib
import enum
import types
import typing
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path, PurePath
from typing import Any, TypeVar, cast

import attrs
import msgspec
import yaml

T = TypeVar("T")


class ConfigError(Exception):
    """A configuration file that does not say what it should; the message names file and key."""


_ADDRESSES = (IPv4Address, IPv4Network, IPv6Address, IPv6Network)


def load(path: Path, into: type[T]) -> T:
    """Read a file; relative paths in it are relative to its folder. ConfigError for anything odd."""
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from error
    return parse({} if data is None else data, into, path)


def parse(data: object, into: type[T], path: Path) -> T:
    """`load` for what is read already; `path` is for messages and relative paths."""
    _refuse_unknown_keys(data, into, f"{path}: ")

    def convert(wanted: type, value: object) -> object:
        if wanted in _ADDRESSES and isinstance(value, str):
            return wanted(value)
        if wanted is Path and isinstance(value, str):
            return path.parent / value
        raise ValueError(f"cannot be read as {wanted.__name__}")

    try:
        return msgspec.convert(data, type=into, strict=True, dec_hook=convert)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def to_yaml(value: Any) -> str:
    """A configuration value as the file that `load` reads back to an equal one."""
    tree = attrs.asdict(
        value,
        filter=lambda _, item: item is not None,
        value_serializer=lambda _, __, item: str(item) if isinstance(item, (*_ADDRESSES, PurePath)) else item,
    )
    return yaml.safe_dump(tree, sort_keys=False, default_flow_style=False, allow_unicode=True)


def _refuse_unknown_keys(data: object, into: Any, place: str) -> None:
    """Walk data and its types together: msgspec itself lets attrs classes ignore what they do not know."""
    origin, arguments = typing.get_origin(into), typing.get_args(into)
    if origin in (types.UnionType, typing.Union):
        for option in arguments:
            if attrs.has(option) and data is not None:
                _refuse_unknown_keys(data, option, place)
    elif origin is list and isinstance(data, list):
        for index, item in enumerate(data):
            _refuse_unknown_keys(item, arguments[0], f"{place}[{index}]")
    elif origin is dict and isinstance(data, dict):
        for key, item in data.items():
            _refuse_unknown_keys(item, arguments[1], _join(place, str(key)))
    elif isinstance(into, type) and not issubclass(into, enum.Enum) and attrs.has(into):
        if not isinstance(data, dict):
            raise ConfigError(f"{place.rstrip(': ')}: expected a mapping, got {type(data).__name__}")
        known = cast("dict[str, Any]", attrs.fields_dict(attrs.resolve_types(into)))
        for key, item in data.items():
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1)
                hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
                raise ConfigError(f"{_join(place, str(key))}: unknown key; {hint}")
            _refuse_unknown_keys(item, known[key].type, _join(place, str(key)))


def _join(place: str, key: str) -> str:
    return place + key if place.endswith(": ") else f"{place}.{key}"
