# SPDX-License-Identifier: Apache-2.0
"""Reads YAML files into frozen values and reports errors with file, line and key.

msgspec checks types and rejects unknown keys; this module adds the line and the nearest known key.
"""

from __future__ import annotations

import difflib
import functools
import operator
import re
import types
import typing
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml
from attrs import frozen

from systemvm.service.errors import FailureCode, SystemVmError

T = TypeVar("T")

#: The keys and list indexes that lead to a value.
KeyPath = tuple[str | int, ...]
_Convert = Callable[[type, object], object]


class ConfigError(SystemVmError):
    """A configuration file is wrong; the message names file, line and key."""

    code = FailureCode.CONFIGURATION


class ConfigSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of every mapping in a configuration file: a key that is not a field is an error."""


@frozen
class Document:
    """A file's data, and the line of each key or item by its key path."""

    path: Path
    data: object
    lines: Mapping[KeyPath, int]

    def at(self, key_path: KeyPath) -> str:
        """Return `FILE:LINE` of the key, or of the nearest mapping or list around it."""
        while key_path and key_path not in self.lines:
            key_path = key_path[:-1]
        return f"{self.path}:{self.lines.get(key_path, 1)}"


_ADDRESSES = (IPv4Address, IPv4Network, IPv6Address, IPv6Network)
_UNKNOWN_KEY = re.compile(r"Object contains unknown field `(.*?)`")


def load(path: Path, into: type[T]) -> T:
    """Read a file; relative paths in it are relative to its directory.

    Raises: ConfigError when the file cannot be read or a value is wrong.
    """
    return parse(read(path), into)


def read(path: Path) -> Document:
    """Read the file as plain data.

    Raises: ConfigError when it cannot be read, is not YAML, or has a key twice.
    """
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
    lines: dict[KeyPath, int] = {}
    if node is not None:
        _collect_lines(path, node, (), lines)
    return Document(path, {} if data is None else data, lines)


def parse(document: Document, into: type[T]) -> T:
    """Convert a document to a value.

    Raises: ConfigError when a key is unknown or a value is wrong.
    """

    def convert(wanted: type, value: object) -> object:
        if wanted in _ADDRESSES and isinstance(value, str):
            return wanted(value)
        if wanted is Path and isinstance(value, str):
            return document.path.parent / value
        raise ValueError(f"cannot be read as {wanted.__name__}")

    try:
        return msgspec.convert(document.data, type=into, strict=True, dec_hook=convert)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        message, key_path = _name_keys(str(error), into, document.data, convert)
        if unknown := _UNKNOWN_KEY.match(message):
            known = list(_type_at(into, key_path).__struct_fields__)
            key_path = (*key_path, unknown[1])
            near = difflib.get_close_matches(unknown[1], known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
            message = f"{format_key_path(key_path)}: unknown key; {hint}"
        raise ConfigError(f"{document.at(key_path)}: {message}") from error


def _name_keys(message: str, into: Any, data: Any, convert: _Convert) -> tuple[str, KeyPath]:
    """Return the message and the path in msgspec's `… - at `$.networks.dns[0]``.

    msgspec does not name the key of a mapping (`$.labels[...]`): it is the first one whose value is wrong.
    """
    found = re.search(r"`\$([^`]*)`$", message)
    path: KeyPath = ()
    for name, index in re.findall(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]", found[1]) if found else []:
        if index == "...":
            wanted = typing.get_args(_type_at(into, path))[1]
            values = functools.reduce(operator.getitem, path, data)
            name = next(key for key, value in values.items() if _is_wrong(value, wanted, convert))
            message = message.replace("[...]", f".{name}", 1)
        path = (*path, name or int(index))
    return message, path


def _is_wrong(value: object, wanted: Any, convert: _Convert) -> bool:
    try:
        msgspec.convert(value, type=wanted, strict=True, dec_hook=convert)
    except (msgspec.ValidationError, ValueError, TypeError):
        return True
    return False


def _type_at(into: Any, key_path: KeyPath) -> Any:
    """Return the type of the value at `key_path` of the type `into`."""
    if typing.get_origin(into) in (types.UnionType, typing.Union):
        [into] = [option for option in typing.get_args(into) if option is not types.NoneType]
    if not key_path:
        return into
    step, *rest = key_path
    if isinstance(step, int):
        return _type_at(typing.get_args(into)[0], tuple(rest))
    if typing.get_origin(into) is dict:
        return _type_at(typing.get_args(into)[1], tuple(rest))
    return _type_at(typing.get_type_hints(into)[step], tuple(rest))


def _collect_lines(path: Path, node: yaml.Node, key_path: KeyPath, lines: dict[KeyPath, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*key_path, str(key.value))
            if inner in lines:
                raise ConfigError(
                    f"{path}:{key.start_mark.line + 1}: {format_key_path(inner)}: duplicate key; "
                    f"first in line {lines[inner]}"
                )
            lines[inner] = key.start_mark.line + 1
            _collect_lines(path, value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*key_path, index)] = value.start_mark.line + 1
            _collect_lines(path, value, (*key_path, index), lines)


def to_yaml(value: ConfigSection) -> str:
    """Return a value as the file from which `load` reads an equal one."""
    tree = _without_none(msgspec.to_builtins(value, enc_hook=str))
    return yaml.safe_dump(tree, sort_keys=False, default_flow_style=False, allow_unicode=True)


def _without_none(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_none(item) for key, item in tree.items() if item is not None}
    return [_without_none(item) for item in tree] if isinstance(tree, list) else tree


def format_key_path(key_path: KeyPath) -> str:
    """
    >>> format_key_path(("image_stores", 0, "url"))
    'image_stores[0].url'
    """
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in key_path).removeprefix(
        "."
    )
