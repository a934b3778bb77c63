# SPDX-License-Identifier: Apache-2.0
"""YAML files as frozen values: strict about types, and a key that nobody knows is an error with its place."""

from __future__ import annotations

import difflib
import enum
import re
import types
import typing
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path, PurePath
from typing import Any, TypeVar, cast

import attrs
import msgspec
import yaml
from attrs import frozen

from systemvm.service.errors import FailureCode, SystemVmError

T = TypeVar("T")

#: The keys and list indexes that lead to a value.
Way = tuple[str | int, ...]


class ConfigError(SystemVmError):
    """A configuration file that does not say what it should; the message names file, line and key."""

    code = FailureCode.CONFIGURATION


@frozen
class Document:
    """A file's data, and the line that each key or item stands on, by the way to it."""

    path: Path
    data: object
    lines: Mapping[Way, int]

    def at(self, way: Way) -> str:
        """`FILE:LINE`, of the nearest thing that stands there."""
        while way and way not in self.lines:
            way = way[:-1]
        return f"{self.path}:{self.lines.get(way, 1)}"


_ADDRESSES = (IPv4Address, IPv4Network, IPv6Address, IPv6Network)


def load(path: Path, into: type[T]) -> T:
    """Read a file; relative paths in it are relative to its folder. ConfigError for anything odd."""
    return parse(read(path), into)


def read(path: Path) -> Document:
    """The file as plain data; ConfigError when it cannot be read, is not YAML, or says a key twice."""
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise ConfigError(f"{path}:{line}: is not YAML: {error.problem or error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from error
    lines: dict[Way, int] = {}
    if node is not None:
        _walk(path, node, (), lines)
    return Document(path, {} if data is None else data, lines)


def parse(document: Document, into: type[T]) -> T:
    """What a document says, as a value."""
    _refuse_unknown_keys(document, document.data, into, ())

    def convert(wanted: type, value: object) -> object:
        if wanted in _ADDRESSES and isinstance(value, str):
            return wanted(value)
        if wanted is Path and isinstance(value, str):
            return document.path.parent / value
        raise ValueError(f"cannot be read as {wanted.__name__}")

    try:
        return msgspec.convert(document.data, type=into, strict=True, dec_hook=convert)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        way = _way_of(str(error))
        raise ConfigError(f"{document.at(way)}: {error}") from error


def _way_of(message: str) -> Way:
    """From msgspec's `… - at `$.networks.dns[0]``."""
    found = re.search(r"`\$([^`]*)`$", message)
    steps = re.findall(r"\.([^.\[]+)|\[(\d+)\]", found[1]) if found else []
    return tuple(name or int(index) for name, index in steps)


def _walk(path: Path, node: yaml.Node, way: Way, lines: dict[Way, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            beneath = (*way, str(key.value))
            if beneath in lines:
                raise ConfigError(
                    f"{path}:{key.start_mark.line + 1}: {way_name(beneath)}: is said twice; "
                    f"first in line {lines[beneath]}"
                )
            lines[beneath] = key.start_mark.line + 1
            _walk(path, value, beneath, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*way, index)] = value.start_mark.line + 1
            _walk(path, value, (*way, index), lines)


def to_yaml(value: Any) -> str:
    """A configuration value as the file that `load` reads back to an equal one."""
    tree = attrs.asdict(
        value,
        filter=lambda _, item: item is not None,
        value_serializer=lambda _, __, item: str(item) if isinstance(item, (*_ADDRESSES, PurePath)) else item,
    )
    return yaml.safe_dump(tree, sort_keys=False, default_flow_style=False, allow_unicode=True)


def _refuse_unknown_keys(document: Document, data: object, into: Any, way: Way) -> None:
    """Walk data and its types together: msgspec itself lets attrs classes ignore what they do not know."""
    origin, arguments = typing.get_origin(into), typing.get_args(into)
    if origin in (types.UnionType, typing.Union):
        for option in arguments:
            if attrs.has(option) and data is not None:
                _refuse_unknown_keys(document, data, option, way)
    elif origin is list and isinstance(data, list):
        for index, item in enumerate(data):
            _refuse_unknown_keys(document, item, arguments[0], (*way, index))
    elif origin is dict and isinstance(data, dict):
        for key, item in data.items():
            _refuse_unknown_keys(document, item, arguments[1], (*way, str(key)))
    elif isinstance(into, type) and not issubclass(into, enum.Enum) and attrs.has(into):
        if not isinstance(data, dict):
            place = ": ".join(filter(None, (document.at(way), way_name(way))))
            raise ConfigError(f"{place}: expected a mapping, got {type(data).__name__}")
        known = cast("dict[str, Any]", attrs.fields_dict(attrs.resolve_types(into)))
        for key, item in data.items():
            beneath = (*way, str(key))
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1)
                hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
                raise ConfigError(f"{document.at(beneath)}: {way_name(beneath)}: unknown key; {hint}")
            _refuse_unknown_keys(document, item, known[key].type, beneath)


def way_name(way: Way) -> str:
    """
    >>> way_name(("image_stores", 0, "url"))
    'image_stores[0].url'
    """
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in way).removeprefix(".")
