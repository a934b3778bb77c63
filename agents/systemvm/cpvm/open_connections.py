# SPDX-License-Identifier: Apache-2.0
"""The open connections of browsers: how many each address has, and waiting until all are gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred

from systemvm.cpvm.console_connection import ConsoleConnection


class OpenConnections:
    """A set that counts by address; a thousand sessions do not make a new one slower."""

    def __init__(self) -> None:
        self._open: set[ConsoleConnection] = set()
        self._of_address: Counter[str] = Counter()
        self._all_gone: Deferred[None] | None = None

    def __iter__(self) -> Iterator[ConsoleConnection]:
        """Iterate over those that are open now, whatever is added or removed meanwhile."""
        return iter(list(self._open))

    def of_address(self, address: str) -> int:
        """Return how many connections a client's address has."""
        return self._of_address[address]

    def add(self, connection: ConsoleConnection) -> None:
        self._open.add(connection)
        self._of_address[connection.client_address] += 1

    def remove(self, connection: ConsoleConnection) -> None:
        """Remove a connection; one that was removed before is ignored."""
        if connection not in self._open:
            return
        self._open.remove(connection)
        address = connection.client_address
        self._of_address[address] -= 1
        if not self._of_address[address]:
            del self._of_address[address]
        gone, self._all_gone = (None, self._all_gone) if self._open else (self._all_gone, None)
        if gone is not None:
            gone.callback(None)

    async def all_gone(self, reactor: Any, deadline_s: float) -> None:
        """Wait until the last one is removed, at most `deadline_s`."""
        if self._open:
            gone: Deferred[None] = Deferred()
            self._all_gone = gone
            gone.addTimeout(deadline_s, reactor)
            await gone.addErrback(self._give_up)

    def _give_up(self, _: object) -> None:
        self._all_gone = None
