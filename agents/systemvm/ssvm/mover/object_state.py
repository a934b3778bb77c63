# SPDX-License-Identifier: Apache-2.0
"""Saves an inspector as plain data, and makes it again: inspectors are objects of numbers and bytes.

Not pickle, which runs what it reads: only classes of the given modules are made, without calling them, and
all they get is plain data and methods of each other. An object with anything else in it (a digest, a file)
cannot be saved.
"""

from __future__ import annotations

import base64
import enum
import inspect
import sys
import uuid
from types import FunctionType, MethodType
from typing import Any

from systemvm.service.errors import SystemVmError

_MAX_DEPTH = 40
_COLLECTIONS: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


class UnsavableError(SystemVmError):
    """The object has something in it that is not plain data of a known class."""


def save(value: object, modules: str) -> Any:
    """Return `value` as data for JSON; classes must be of modules whose names begin with `modules`.

    Raises: UnsavableError when it cannot be saved.
    """
    return _Saver(modules).save(value, 0)


def load(data: Any, modules: str) -> Any:
    """Return what `save` was given.

    Raises: ValueError when the data is damaged or names another class.
    """
    try:
        return _Loader(modules).load(data)
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"the saved object is damaged: {error}") from None


class _Saver:
    """Objects refer to each other; each is saved where it is met first, and by its number from then on."""

    def __init__(self, modules: str) -> None:
        self._modules = modules
        self._numbers: dict[int, int] = {}
        self._kept: list[object] = []  # so that no address is used twice

    def save(self, value: object, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise UnsavableError("the object is nested too deeply")
        inner = depth + 1
        match value:
            case enum.Enum():
                return {"kind": "enum", "class": self._name(type(value)), "value": value.name}
            case None | bool() | int() | float() | str():
                return value
            case bytes() | bytearray():
                return {"kind": type(value).__name__, "value": base64.b64encode(value).decode()}
            case uuid.UUID():
                return {"kind": "uuid", "value": str(value)}
            case list() | set() | frozenset():
                return {"kind": type(value).__name__, "value": [self.save(each, inner) for each in value]}
            case tuple() if type(value) is tuple:
                return {"kind": "tuple", "value": [self.save(each, inner) for each in value]}
            case dict():
                pairs = [[self.save(key, inner), self.save(each, inner)] for key, each in value.items()]
                return {"kind": "dict", "value": pairs}
            case MethodType():
                owner = self.save(value.__self__, inner)
                return {"kind": "method", "object": owner, "value": value.__name__}
            case FunctionType():
                return {"kind": "function", "class": self._name(value), "value": None}
        if id(value) in self._numbers:
            return {"kind": "known", "value": self._numbers[id(value)]}
        name = self._name(type(value))
        self._numbers[id(value)] = len(self._kept)
        self._kept.append(value)
        return {"kind": "object", "class": name, "value": self.save(_members(value), inner)}

    def _name(self, owner: type | FunctionType) -> str:
        if not owner.__module__.startswith((self._modules, "systemvm.wire.")) or "<" in owner.__qualname__:
            raise UnsavableError(f"{owner.__module__}.{owner.__qualname__} is not plain data")
        return f"{owner.__module__}:{owner.__qualname__}"


class _Loader:
    def __init__(self, modules: str) -> None:
        self._modules = modules
        self._made: list[Any] = []

    def load(self, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        kind, value = data["kind"], data["value"]
        if kind in ("bytes", "bytearray"):
            raw = base64.b64decode(value)
            return raw if kind == "bytes" else bytearray(raw)
        if kind in _COLLECTIONS:
            return _COLLECTIONS[kind](self.load(each) for each in value)
        if kind == "dict":
            return {self.load(key): self.load(each) for key, each in value}
        if kind == "uuid":
            return uuid.UUID(value)
        if kind == "known":
            return self._made[value]
        if kind == "method":
            owner = self.load(data["object"])
            if not any(owner is each for each in self._made) or not inspect.isfunction(
                getattr(type(owner), value)
            ):
                raise ValueError(f"the saved object names no method: {value[:80]}")
            return getattr(owner, value)
        found = self._find(data["class"])
        if kind == "function" and inspect.isfunction(found):
            return found
        if not inspect.isclass(found):
            raise ValueError(f"the saved object has a class of its own: {data['class'][:80]}")
        return self._load_object(kind, found, value)

    def _load_object(self, kind: str, owner: Any, value: Any) -> Any:
        if kind == "enum":
            return owner[value]
        if kind != "object":
            raise ValueError(f"the saved object is damaged: {kind[:80]}")
        made = owner.__new__(owner)
        self._made.append(made)
        for name, member in self.load(value).items():
            object.__setattr__(made, name, member)
        return made

    def _find(self, name: str) -> Any:
        module, _, qualified = name.partition(":")
        if not module.startswith((self._modules, "systemvm.wire.")) or module not in sys.modules:
            raise ValueError(f"the saved object has a class of {module}")
        found: Any = sys.modules[module]
        for part in qualified.split("."):
            found = getattr(found, part)
        if getattr(found, "__module__", "") != module:
            raise ValueError(f"the saved object has a class of another module: {name[:80]}")
        return found


def _members(value: object) -> dict[str, Any]:
    members = dict(getattr(value, "__dict__", {}))
    for owner in type(value).__mro__:
        slots = owner.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__weakref__", "__dict__") and hasattr(value, name):
                members[name] = getattr(value, name)
    return members
