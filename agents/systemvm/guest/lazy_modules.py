# SPDX-License-Identifier: Apache-2.0
"""A quicker start of a program: its imports without the garbage collector, and without what nobody calls.

Twisted imports the whole of asyncio for one function, and HTTP's cookies (which bring HTTP, MIME and their
parsers) to say that a name of its own is deprecated. That is a seventh of an agent's start. Stand-ins take
their place, and become the real modules as soon as anyone asks for more.
"""

from __future__ import annotations

import gc
import http
import importlib
import sys
from collections.abc import Coroutine
from pathlib import Path
from types import CoroutineType, ModuleType
from typing import Any


class Later(ModuleType):
    """A module that is imported when the first of its names is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by the import itself, and by whoever lists all modules
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def is_coroutine(thing: object) -> bool:
    """asyncio.iscoroutine of Python 3.12 and later."""
    return isinstance(thing, CoroutineType | Coroutine)


def begin() -> None:
    """To be called before Twisted is imported; what has been imported already stays as it is."""
    gc.disable()
    if "http.cookiejar" not in sys.modules:
        sys.modules["http.cookiejar"] = vars(http)["cookiejar"] = Later("http.cookiejar")
    if "asyncio" not in sys.modules:
        asyncio = Later("asyncio")
        # a package, so that its modules can be imported; the names are Twisted's, two of them for annotations
        asyncio.__path__ = [str(Path(http.__file__).parents[1] / "asyncio")]
        vars(asyncio).update(iscoroutine=is_coroutine, AbstractEventLoop=object, Future=object)
        sys.modules["asyncio"] = asyncio


def end() -> None:
    """To be called when all is imported: the collector runs again, and never looks at what is here by now."""
    gc.freeze()
    gc.enable()
