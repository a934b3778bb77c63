# SPDX-License-Identifier: Apache-2.0
"""Reads of lists, round-robin by account.

An account that asks for everything without a pause delays its own calls, and hardly those of others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Generic, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred

from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.service.fair_queue import FairQueue

T = TypeVar("T")

#: More threads than these only wait for each other, because Python runs one at a time.
MAX_RUNNING = 3
#: A place is always left to another account.
MAX_RUNNING_OF_ACCOUNT = MAX_RUNNING - 1
MAX_WAITING = 4000
MAX_WAITING_OF_ACCOUNT = 500

#: The account whose call reads a list; None for all other reads, which do not wait here.
account_of_list: ContextVar[str | None] = ContextVar("account_of_list", default=None)


class TooManyListsError(SystemVmError):
    """More reads of lists wait than there is room for."""

    code = FailureCode.UNAVAILABLE

    def __init__(self) -> None:
        super().__init__("too many lists of this account are waiting", "send the next call after an answer")


@frozen(eq=False)
class _Waiting(Generic[T]):
    account: str
    item: T


class ListTurns(Generic[T]):
    """Which reads run and which wait; sans-IO."""

    def __init__(
        self,
        max_running: int = MAX_RUNNING,
        max_running_of_account: int = MAX_RUNNING_OF_ACCOUNT,
        max_waiting: int = MAX_WAITING,
        max_waiting_of_account: int = MAX_WAITING_OF_ACCOUNT,
    ) -> None:
        self._max_running = max_running
        self._max_running_of_account = max_running_of_account
        self._waiting: FairQueue[_Waiting[T]] = FairQueue(max_waiting, max_waiting_of_account)
        self._running: Counter[str] = Counter()

    def add(self, account: str, item: T) -> T | None:
        """Let an item wait. Return the one without room: the item itself, or one of an account with more."""
        rejected = self._waiting.add(account, _Waiting(account, item))
        return None if rejected is None else rejected.item

    def begin(self) -> tuple[str, T] | None:
        """Return the next item that can run now, with its account; None when there is none."""
        if self._running.total() >= self._max_running:
            return None
        busy = {name for name, count in self._running.items() if count >= self._max_running_of_account}
        try:
            found = self._waiting.pop(skipped=busy)
        except LookupError:
            return None
        self._running[found.account] += 1
        return found.account, found.item

    def end(self, account: str) -> None:
        """Free the place of an item that has run."""
        self._running[account] -= 1
        if not self._running[account]:
            del self._running[account]


class ListReaders:
    """Runs reads of lists in threads when it is their account's turn."""

    def __init__(self, in_thread: Callable[[Callable[[], object]], Awaitable[object]]) -> None:
        self._in_thread = in_thread
        self._turns: ListTurns[Deferred[None]] = ListTurns()

    async def run(self, account: str, work: Callable[[], T]) -> T:
        """Run `work` in a thread.

        Raises: TooManyListsError when too many of this account wait already.
        """
        turn: Deferred[None] = Deferred()
        rejected = self._turns.add(account, turn)
        if rejected is not None and not rejected.called:
            rejected.errback(TooManyListsError())
        self._begin()
        await turn
        try:
            return await self._in_thread(work)  # type: ignore[return-value]
        finally:
            self._turns.end(account)
            self._begin()

    def _begin(self) -> None:
        while (begun := self._turns.begin()) is not None:
            account, turn = begun
            if turn.called:  # its call was cancelled while it waited
                self._turns.end(account)
            else:
                turn.callback(None)
