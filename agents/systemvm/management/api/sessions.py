# SPDX-License-Identifier: Apache-2.0
"""Login sessions, whose rows contain only hashes, so that a copied database does not open a session."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import timedelta

from attrs import evolve, field, frozen

from systemvm.management.api.authentication import PRINCIPAL_TABLES, principal_of
from systemvm.management.api.principal import Principal
from systemvm.management.state import accounts, sessions
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.sessions import LoginSession

IDLE_LIMIT = timedelta(minutes=30)  # CloudStack's session timeout
TOTAL_LIMIT = timedelta(hours=12)
#: How long after its last update a session's expiry is extended, so that not every call writes.
EXTEND_EVERY = timedelta(seconds=60)


@frozen
class OpenedSession:
    """The two secrets of a new session, which exist in clear text only here."""

    cookie: str = field(repr=False)
    session_key: str = field(repr=False)


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Sessions:
    """Opens, finds and ends sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(
        self, principal: Principal, client_address: str, *, is_verified: bool = True
    ) -> OpenedSession | None:
        """Open a session for a user whose password was verified; None when it was changed meanwhile.

        `is_verified` is false when a second factor is to be verified in the session first.
        """
        opened = OpenedSession(secrets.token_urlsafe(32), secrets.token_urlsafe(32))
        is_open = await self._database.run(_open, opened, principal, client_address, is_verified)
        return opened if is_open else None

    async def find(self, cookie: str, session_key: str) -> Principal | None:
        """Return the user of a session; None unless both secrets are right and it has not expired.

        The session is used by this, and expires later.
        """
        session = await self._valid(cookie, session_key)
        if session is None:
            return None
        moment = now()
        if moment - session.last_used > EXTEND_EVERY:
            await self._database.run(
                sessions.extend, session.id, moment + IDLE_LIMIT, unused_since=moment - EXTEND_EVERY
            )
        return await self._user_of(session)

    async def peek(self, cookie: str, session_key: str) -> Principal | None:
        """Do as `find`, but without use of the session: an open page does not keep it from its end."""
        session = await self._valid(cookie, session_key)
        return None if session is None else await self._user_of(session)

    async def _valid(self, cookie: str, session_key: str) -> LoginSession | None:
        session = await self._database.read_kept(sessions.not_ended, sessions.TOPICS, digest(cookie))
        if session is None or not hmac.compare_digest(session.session_key_hash, digest(session_key)):
            return None
        moment = now()
        if moment >= session.expires or moment - session.created > TOTAL_LIMIT:
            return None
        return session

    async def _user_of(self, session: LoginSession) -> Principal | None:
        principal = await self._database.read_kept(_principal, PRINCIPAL_TABLES, session.user_id)
        return principal and evolve(principal, login_uuid=session.uuid, is_verified=session.is_verified)

    async def end(self, cookie: str) -> str | None:
        """End a session and return its UUID; None when it had already ended."""
        return await self._database.run(_end, digest(cookie))


def _open(
    connection: Connection,
    opened: OpenedSession,
    principal: Principal,
    client_address: str,
    is_verified: bool,
) -> bool:
    """Open a session unless the user changed while the password was verified, which can take long."""
    present = _principal(connection, principal.user.id)
    if present is None or present.user.password_hash != principal.user.password_hash:
        return False
    sessions.delete_expired(connection)
    sessions.create(
        connection,
        user_id=principal.user.id,
        cookie_hash=digest(opened.cookie),
        session_key_hash=digest(opened.session_key),
        client_address=client_address,
        expires=now() + IDLE_LIMIT,
        is_verified=is_verified,
    )
    return True


def _principal(connection: Connection, user_id: int) -> Principal | None:
    user = accounts.find_user(connection, user_id)
    return principal_of(connection, user) if user else None


def _end(connection: Connection, cookie_hash: str) -> str | None:
    session = sessions.by_cookie_hash(connection, cookie_hash)
    if session is None:
        return None
    sessions.end(connection, session.id)
    return session.uuid
