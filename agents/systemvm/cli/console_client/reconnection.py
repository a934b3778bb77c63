# SPDX-License-Identifier: Apache-2.0
"""When a console's client connects again, and what it says when it does not; without I/O.

A session waits for its client: `consoleproxy.session.reconnect.window` seconds after a lost connection, and
three times as long for a VM that does not run. The console proxy, which knows, ends the session; the client
gives up by itself only when it reaches no console proxy at all.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from systemvm.cli.console_client.connection import ConnectionEnd
from systemvm.wire.console_close import TRANSIENT, ConsoleCloseCode

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 10.0
#: Longer than a session waits by default, because the console proxy notices a lost connection later.
UNREACHABLE_S = 90.0

_UNREACHABLE = frozenset({ConsoleCloseCode.GOING_AWAY, ConsoleCloseCode.ABNORMAL_CLOSURE})
_HINTS: dict[int, str] = {
    ConsoleCloseCode.ABNORMAL_CLOSURE: "check the network, then run the command again",
    ConsoleCloseCode.SESSION_IDLE: "run the command again; consoleproxy.session.timeout sets the time",
    ConsoleCloseCode.TOO_MANY: 'close one of those that "systemvm console list" shows',
    ConsoleCloseCode.TAKEN_OVER: "ask the other user, or run the command again",
}
_RUN_AGAIN = "run the command again"


class Reconnection:
    """Decides after each connection; `connected` is to be called for each that was made."""

    def __init__(self, now_s: Callable[[], float], jitter: Callable[[], float] = random.random) -> None:
        self._now_s = now_s
        self._jitter = jitter
        self._attempts = 0
        self._unreachable_since_s: float | None = None

    def connected(self) -> None:
        self._unreachable_since_s = None

    def used(self) -> None:
        """The machine has sent something: the next lost connection is a new one."""
        self._attempts = 0

    def wait_s(self, end: ConnectionEnd) -> float | None:
        """Return how long to wait before the next connection, or None when there is none."""
        if end.code not in TRANSIENT:
            return None
        if end.code in _UNREACHABLE:
            now_s = self._now_s()
            if self._unreachable_since_s is None:
                self._unreachable_since_s = now_s
            if now_s - self._unreachable_since_s >= UNREACHABLE_S:
                return None
        delay_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * float(2**self._attempts))
        self._attempts = min(self._attempts + 1, 10)
        # the consoles of a lost proxy do not all reconnect at once
        return delay_s * (0.75 + self._jitter() / 2)


def explain(name: str, end: ConnectionEnd) -> tuple[str, str]:
    """Return the message and the hint for the end of a console."""
    lost = end.code == ConsoleCloseCode.ABNORMAL_CLOSURE
    why = end.reason or ("the console proxy cannot be reached" if lost else f"close code {end.code}")
    return f"console of {name} has ended: {as_clause(why)}", _HINTS.get(end.code, _RUN_AGAIN)


def as_clause(sentence: str) -> str:
    """Return a title of a console proxy as the part of a message."""
    return sentence[:1].lower() + sentence[1:]
