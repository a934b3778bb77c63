# SPDX-License-Identifier: Apache-2.0
# pytest-twisted has no types of its own; these are the parts that the tests use.
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred

_P = ParamSpec("_P")
_T = TypeVar("_T")

def ensureDeferred(f: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, Coroutine[Any, Any, _T]]: ...
def async_fixture(f: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, _T]: ...
def async_yield_fixture(f: Callable[_P, AsyncIterator[_T]]) -> Callable[_P, _T]: ...
def blockon(d: Deferred[_T]) -> _T: ...
