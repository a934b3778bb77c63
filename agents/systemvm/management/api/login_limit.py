# SPDX-License-Identifier: Apache-2.0
"""Limits password guesses, by source, and by account for all sources that have not logged in to it before.

A source that has logged in to an account before is trusted: only its own failures slow it down, and it is
never rejected, so that guesses from elsewhere do not lock a user out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from attrs import frozen

from systemvm.management.api.errors import ApiError, ErrorCode

#: Makes the error for one attempt too many, from the seconds to wait.
Refusal = Callable[[float], ApiError]
MAX_TRACKED = 10_000
MAX_DELAY_S = 5.0


@frozen
class Attempt:
    """The source and account of a login; `trusted` when this source has logged in to the account before."""

    source: str
    account: str
    trusted: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that the attempt counts for."""
        if self.trusted:
            return (f"trusted {self.source} {self.account}",)
        return (f"source {self.source}", f"account {self.account}")


def too_many_logins(wait_s: float) -> ApiError:
    return ApiError(
        ErrorCode.RATE_LIMITED,
        "too many failed logins",
        f"try again in {int(wait_s) + 1} s, log in from an address used before, or use an API key",
        retry_after_s=wait_s,
    )


class LoginLimit:
    """Rejects untrusted sources for a while after too many attempts, and delays trusted ones.

    It is a leaky bucket for each key, which loses one attempt every `window_s / allowed` seconds. A
    successful login takes its own attempt back. Memory is bounded whatever sources are used.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        allowed: int = 5,
        window_s: float = 60.0,
        *,
        refusal: Refusal = too_many_logins,
    ) -> None:
        self._refusal = refusal
        self._seconds = seconds
        self._allowed = allowed
        self._leak_s = window_s / allowed
        self._attempts: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key → (level, when)

    def admit(self, attempt: Attempt) -> float:
        """Count an attempt and return how many seconds to wait before its password is verified.

        It counts before the password is verified, so that guesses sent at the same time do not all pass.

        Raises: ApiError 429 with the time to wait, for untrusted sources only, whether or not the user
        exists.
        """
        wait_s = max(self._wait_s(key) for key in attempt.keys)
        if wait_s > 0 and not attempt.trusted:
            raise self._refusal(wait_s)
        for key in attempt.keys:
            self._set(key, self._level(key) + 1)
        while len(self._attempts) > MAX_TRACKED:
            self._attempts.popitem(last=False)
        return min(wait_s, MAX_DELAY_S)

    def succeeded(self, attempt: Attempt) -> None:
        """Forget all attempts of the account, but only this one of the source.

        Otherwise a login to the own account would permit more guesses at other accounts.
        """
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
