# SPDX-License-Identifier: Apache-2.0
"""FakeDaemon, which answers the command line in the place of the daemon's socket."""

from __future__ import annotations

from typing import Any


class FakeDaemon:
    """Return prepared results by method; `__` in a keyword stands for the dot of a method's name.

    The results of a list are returned one after another, the last one repeatedly; an exception is raised.
    """

    def __init__(self, **results: Any) -> None:
        self._results = {name.replace("__", "."): result for name, result in results.items()}
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, path: str, method: str, params: dict[str, Any], timeout_s: float = 30) -> Any:
        self.calls.append((method, params))
        result = self._results[method]
        if isinstance(result, list):
            result = result.pop(0) if len(result) > 1 else result[0]
        if isinstance(result, Exception):
            raise result
        return result
