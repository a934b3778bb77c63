# SPDX-License-Identifier: Apache-2.0
"""How often a password may be guessed: by source, and by account from all sources that are strangers to it.

A source that logged in to an account before is no stranger to it: it is slowed down by its own failures
alone, and never refused, so that nobody's guessing elsewhere keeps a user out of where they work.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from attrs import frozen

from systemvm.management.api.errors import ApiError, ErrorCode

MAX_TRACKED = 10_000
MAX_DELAY_S = 5.0


@frozen
class Attempt:
    """Who tries a password; `trusted` when this source was right for this account before."""

    source: str
    account: str
    trusted: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """What the attempt counts for."""
        if self.trusted:
            return (f"trusted {self.source} {self.account}",)
        return (f"source {self.source}", f"account {self.account}")


class LoginLimit:
    """Refuses strangers for a while after too many attempts, and delays trusted sources; a success takes its
    own attempt back.

    Attempts of a key leak away, one every `window_s / allowed` seconds, so that nobody is locked out for long
    by another's guessing, and memory is bounded whatever sources a guesser uses.
    """

    def __init__(self, seconds: Callable[[], float], allowed: int = 5, window_s: float = 60.0) -> None:
        self._seconds = seconds
        self._allowed = allowed
        self._leak_s = window_s / allowed
        self._attempts: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key → (level, when)

    def admit(self, attempt: Attempt) -> float:
        """Count an attempt, and answer how many seconds it must wait before its password is looked at.

        ApiError 429 with the time to wait, for strangers alone, and without saying whether the user exists.
        It counts before the password is looked at: guesses sent side by side must not all pass.
        """
        wait_s = max(self._wait_s(key) for key in attempt.keys)
        if wait_s > 0 and not attempt.trusted:
            raise ApiError(
                ErrorCode.RATE_LIMITED,
                "Too many failed logins",
                f"try again in {int(wait_s) + 1} s, log in from where you did before, or use an API key",
                retry_after_s=wait_s,
            )
        for key in attempt.keys:
            self._set(key, self._level(key) + 1)
        while len(self._attempts) > MAX_TRACKED:
            self._attempts.popitem(last=False)
        return min(wait_s, MAX_DELAY_S)

    def succeeded(self, attempt: Attempt) -> None:
        """Forgets the account's attempts, but only this one of the source: an account of one's own must not
        buy guesses at others'."""
        if attempt.trusted:
            self._attempts.pop(attempt.keys[0], None)
            return
        source, account = attempt.keys
        self._attempts.pop(account, None)
        self._set(source, max(0.0, self._level(source) - 1))

    def _set(self, key: str, level: float) -> None:
        self._attempts[key] = (level, self._seconds())
        self._attempts.move_to_end(key)

    def _level(self, key: str) -> float:
        level, when = self._attempts.get(key, (0.0, self._seconds()))
        return max(0.0, level - (self._seconds() - when) / self._leak_s)

    def _wait_s(self, key: str) -> float:
        return max(0.0, (self._level(key) - self._allowed + 1) * self._leak_s)
