# SPDX-License-Identifier: Apache-2.0
"""Hashes and verifies passwords with argon2id, in threads, a few at a time."""

from __future__ import annotations

import argon2

from systemvm.management.api.hash_limiter import HashLimiter


class PasswordService:
    """Argon2id with the library's parameters (RFC 9106), unless a test gives weaker ones.

    `source` is the client's network, or a user: sources take turns. Its methods raise ApiError 503 when too
    many wait already.
    """

    def __init__(self, hasher: argon2.PasswordHasher | None = None) -> None:
        self._hasher = hasher or argon2.PasswordHasher()
        self._dummy_hash = self._hasher.hash("a password that no user has")
        self._gate = HashLimiter()

    async def hash(self, password: str, *, source: str) -> str:
        return await self._gate.run(source, True, self._hasher.hash, password)

    async def verify(self, stored: str | None, password: str, *, source: str, trusted: bool = False) -> bool:
        """Return whether `stored` is a hash of the password; False without a hash, after the same time."""
        hashed = stored or self._dummy_hash
        right = await self._gate.run(source, trusted, self._verify, hashed, password)
        return right and stored is not None

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return bool(self._hasher.verify(stored, password))
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
