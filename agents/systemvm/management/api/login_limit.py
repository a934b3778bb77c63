# SPDX-License-Identifier: Apache-2.0
"""How often a password may be guessed: counted by client address and by user name apart."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from systemvm.management.api.errors import ApiError, ErrorCode

MAX_TRACKED = 10_000


class LoginLimit:
    """Refuses further logins for a while after too many attempts; a success takes its own back.

    Attempts of a key leak away, one every `window_s / allowed` seconds, so that nobody is locked out for long
    by another's guessing, and memory is bounded whatever addresses a guesser uses.
    """

    def __init__(self, seconds: Callable[[], float], allowed: int = 5, window_s: float = 60.0) -> None:
        self._seconds = seconds
        self._allowed = allowed
        self._leak_s = window_s / allowed
        self._attempts: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key → (level, when)

    def check(self, client_address: str, username: str) -> None:
        """ApiError 429 with the time to wait, without saying whether the user exists."""
        wait_s = max(self._wait_s(key) for key in _keys(client_address, username))
        if wait_s > 0:
            raise ApiError(
                ErrorCode.RATE_LIMITED,
                "Too many failed logins",
                f"try again in {int(wait_s) + 1} s",
                retry_after_s=wait_s,
            )

    def failed(self, client_address: str, username: str) -> None:
        for key in _keys(client_address, username):
            self._set(key, self._level(key) + 1)
        while len(self._attempts) > MAX_TRACKED:
            self._attempts.popitem(last=False)

    def succeeded(self, client_address: str, username: str) -> None:
        """Forgets the user's attempts, but only this one of the address: an account of one's own must not buy
        guesses at others'."""
        address, user = _keys(client_address, username)
        self._attempts.pop(user, None)
        self._set(address, max(0.0, self._level(address) - 1))

    def _set(self, key: str, level: float) -> None:
        self._attempts[key] = (level, self._seconds())
        self._attempts.move_to_end(key)

    def _level(self, key: str) -> float:
        level, when = self._attempts.get(key, (0.0, self._seconds()))
        return max(0.0, level - (self._seconds() - when) / self._leak_s)

    def _wait_s(self, key: str) -> float:
        return max(0.0, (self._level(key) - self._allowed + 1) * self._leak_s)


def _keys(client_address: str, username: str) -> tuple[str, str]:
    return f"address {client_address}", f"user {username.lower()}"
