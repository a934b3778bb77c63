# SPDX-License-Identifier: Apache-2.0
"""The secret by which one browser comes back to its session; each connection replaces it.

A connection gets the next secret with the response to its upgrade. Until the browser has sent anything after
it, nobody knows whether the response arrived: when the connection is lost before, the browser has either the
one that it presented or the new one, and both are valid. Afterwards only the newest is. While one connection
is undecided, another one is refused, so that of two racing ones exactly one wins.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import secrets
from collections import deque

from attrs import define, field

from systemvm.cpvm.saved_state import SavedSecret

MAX_REMEMBERED = 16


class SecretCheck(enum.Enum):
    """What a secret proves."""

    VALID = "valid"
    REPLACED = "replaced"  # it was valid before
    WRONG = "wrong"


@define
class ReconnectSecret:
    """The valid secrets of one session, as digests: neither memory nor timing reveals them."""

    _valid: list[bytes] = field(factory=list, init=False, repr=False)
    _presented: bytes = field(default=b"", init=False, repr=False)  # by the undecided connection
    _issued: bytes | None = field(default=None, init=False, repr=False)  # to the undecided connection
    _replaced: deque[bytes] = field(factory=lambda: deque(maxlen=MAX_REMEMBERED), init=False, repr=False)

    @property
    def is_undecided(self) -> bool:
        return self._issued is not None

    @classmethod
    def restored(cls, saved: SavedSecret) -> ReconnectSecret:
        secret = cls()
        secret._valid = list(saved.valid)
        secret._replaced.extend(saved.replaced)
        return secret

    def save(self) -> SavedSecret:
        """Return the digests as they hold when the connection is lost now."""
        if self._issued is None:
            return SavedSecret(self._valid, list(self._replaced))
        others = [each for each in self._valid if each != self._presented]
        return SavedSecret([self._presented, self._issued], [*self._replaced, *others][-MAX_REMEMBERED:])

    def first(self) -> str:
        """Return the secret of a new session."""
        secret = secrets.token_urlsafe(32)
        self._valid = [_digest(secret)]
        return secret

    def check(self, secret: str | None) -> SecretCheck:
        if secret is None:
            return SecretCheck.WRONG
        digest = _digest(secret)
        if _holds(self._valid, digest):
            return SecretCheck.VALID
        return SecretCheck.REPLACED if _holds(self._replaced, digest) else SecretCheck.WRONG

    def issue(self, presented: str) -> str:
        """Return the secret for a new connection that presented a valid one.

        `confirm` or `give_up` must follow.
        """
        if self._issued is not None:
            raise RuntimeError("the connection before is undecided")
        secret = secrets.token_urlsafe(32)
        self._presented, self._issued = _digest(presented), _digest(secret)
        return secret

    def confirm(self) -> None:
        """The browser has the issued secret: no other one is valid any more."""
        if self._issued is not None:
            self._replaced.extend(self._valid)
            self._valid, self._issued = [self._issued], None

    def give_up(self) -> None:
        """The connection was lost before it was confirmed: the browser has one of two secrets."""
        if self._issued is not None:
            self._replaced.extend(each for each in self._valid if each != self._presented)
            self._valid, self._issued = [self._presented, self._issued], None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _holds(digests: list[bytes] | deque[bytes], digest: bytes) -> bool:
    return any([hmac.compare_digest(each, digest) for each in digests])  # noqa: C419  (constant time)
