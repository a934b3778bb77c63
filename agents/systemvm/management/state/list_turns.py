# SPDX-License-Identifier: Apache-2.0
"""Reads of lists, round-robin by account.

An account that asks for everything without a pause delays its own calls, and hardly those of others. Short
reads of an account follow each other in one thread, and are answered together: to wake a thread for each, and
the reactor for each answer, takes longer than to read a page.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.service.fair_queue import FairQueue

T = TypeVar("T")

#: More threads than these only wait for each other, because Python runs one at a time.
MAX_RUNNING = 3
#: A place is always left to another account.
MAX_RUNNING_OF_ACCOUNT = MAX_RUNNING - 1
MAX_WAITING = 4000
MAX_WAITING_OF_ACCOUNT = 500
#: How long a turn goes on to a next read.
TURN_S = 0.004
#: A longer turn has a slow read: what it has read is answered, and its account can have another one.
SLOW_S = 0.02

#: The account whose call reads a list; None for all other reads, which do not wait here.
account_of_list: ContextVar[str | None] = ContextVar("account_of_list", default=None)


class TooManyListsError(SystemVmError):
    """More reads of lists wait than there is room for."""

    code = FailureCode.UNAVAILABLE

    def __init__(self) -> None:
        super().__init__("too many lists of this account are waiting", "send the next call after an answer")


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
        self._waiting: FairQueue[tuple[str, T]] = FairQueue(max_waiting, max_waiting_of_account)
        self._running: Counter[str] = Counter()
        self._begun_s: dict[str, float] = {}  # when the last turn of an account began

    @property
    def running(self) -> int:
        return self._running.total()

    def add(self, account: str, item: T) -> T | None:
        """Let an item wait. Return the one without room: the item itself, or one of an account with more."""
        rejected = self._waiting.add(account, (account, item))
        return None if rejected is None else rejected[1]

    def begin(self, now_s: float) -> tuple[str, T] | None:
        """Begin the next turn that is possible now: return its account and its first item, or None.

        An account has a further turn only when its last one is slow.
        """
        if self.running >= self._max_running:
            return None
        busy = {
            name
            for name, count in self._running.items()
            if count >= self._max_running_of_account or now_s - self._begun_s[name] < SLOW_S
        }
        try:
            account, item = self._waiting.pop(skipped=busy)
        except LookupError:
            return None
        self._running[account] += 1
        self._begun_s[account] = now_s
        return account, item

    def more(self, account: str) -> T | None:
        """Return the next item of an account for a turn that goes on."""
        try:
            return self._waiting.pop_of(account)[1]
        except LookupError:
            return None

    def end(self, account: str) -> None:
        """Free the place of a turn."""
        self._running[account] -= 1
        if not self._running[account]:
            del self._running[account], self._begun_s[account]


@define(eq=False)
class _Read:
    """A read that waits, runs or has a result."""

    work: Callable[[], Any]
    answered: Deferred[Any] = field(factory=Deferred)
    result: Any = None  # a Failure when it failed

    def run(self) -> None:
        try:
            self.result = self.work()
        except BaseException:
            self.result = Failure()


class ListReaders:
    """Runs reads of lists in threads when it is their account's turn.

    `in_thread` runs a function in a thread, `call_later` calls one in the reactor after so many seconds.
    """

    def __init__(
        self,
        in_thread: Callable[[Callable[[], None]], Awaitable[None]],
        call_later: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._in_thread = in_thread
        self._call_later = call_later
        self._clock = clock
        self._turns: ListTurns[_Read] = ListTurns()
        self._lock = threading.Lock()  # of the turns
        self._read: deque[_Read] = deque()  # those that have a result
        self._looks_again = False

    async def run(self, account: str, work: Callable[[], T]) -> T:
        """Run `work` in a thread.

        Raises: TooManyListsError when too many of this account wait already.
        """
        read = _Read(work)
        with self._lock:
            rejected = self._turns.add(account, read)
        if rejected is not None and not rejected.answered.called:
            rejected.answered.errback(TooManyListsError())
        self._begin()
        result: T = await read.answered
        return result

    def _begin(self) -> None:
        while True:
            with self._lock:
                begun = self._turns.begin(self._clock())
                running = self._turns.running
            if begun is None:
                break
            Deferred.fromCoroutine(self._turn(*begun))
        if running and not self._looks_again:
            self._looks_again = True
            self._call_later(SLOW_S, self._look_again)

    def _look_again(self) -> None:
        """Go on without the turns that are slow."""
        self._looks_again = False
        self._answer()
        self._begin()

    async def _turn(self, account: str, first: _Read) -> None:
        try:
            await self._in_thread(lambda: self._read_in_turn(account, first))
        except Exception:
            self._fail(account, first)
        with self._lock:
            self._turns.end(account)
        self._answer()
        self._begin()

    def _fail(self, account: str, first: _Read) -> None:
        """Fail the reads of an account: no thread runs any more."""
        failure = Failure()
        read: _Read | None = first
        while read is not None:
            read.result = failure
            self._read.append(read)
            with self._lock:
                read = self._turns.more(account)

    def _read_in_turn(self, account: str, first: _Read) -> None:
        """Read in a thread until nothing of this account waits, or the turn is over."""
        began_s = self._clock()
        read: _Read | None = first
        while read is not None:
            if not read.answered.called:  # else its call was cancelled while it waited
                read.run()
                self._read.append(read)
            if self._clock() - began_s >= TURN_S:
                break
            with self._lock:
                read = self._turns.more(account)

    def _answer(self) -> None:
        while self._read:
            read = self._read.popleft()
            if not read.answered.called:
                read.answered.callback(read.result)
