# SPDX-License-Identifier: Apache-2.0
"""Which browsers may open which consoles, and until when.

A spent token makes a session. A browser that spent its token by POST gets a cookie and may reconnect while
the session lives. One cookie can hold several sessions, so that consoles in two tabs do not replace each
other. A session that was opened by a token at the WebSocket address has no cookie: it ends with its
connection.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable

from attrs import define, field

from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.service.connection_limits import source_of_address
from systemvm.wire.console import ConsoleSession

MAX_SESSIONS = 2000


@define
class _Grant:
    session: ConsoleSession
    expires_at_s: float
    browser: bytes | None  # digest of the cookie; None when there is none
    source: str  # where its token was spent from: an IPv4 address, or an IPv6 /64
    connections: int = 0


@define
class Grants:
    """All sessions of this CPVM; `on_ended` is called once at the end of each, with its id and the reason."""

    now_s: Callable[[], float]
    on_ended: Callable[[str, str], None]
    #: A cookie is valid only from the address that it was issued to; set in the zone's configuration.
    binds_address: bool = False
    _grants: dict[str, _Grant] = field(factory=dict, init=False, repr=False)
    #: Refusals of sessions that ended early, for their own browsers; the oldest are dropped.
    _ended_grants: dict[str, tuple[_Grant, BrowserRefusal]] = field(factory=dict, init=False, repr=False)

    def admit(self, session: ConsoleSession, cookie: str | None, address: str) -> str:
        """Add a session for a browser and return the cookie to set; a known cookie is used again.

        Raises: ConsoleRefusedError when there are MAX_SESSIONS.
        """
        browser = _digest(cookie)
        if cookie is None or not any(grant.browser == browser for grant in self._grants.values()):
            cookie = secrets.token_urlsafe(32)
        self._add(session, _digest(cookie), address)
        return cookie

    def admit_once(self, session: ConsoleSession) -> None:
        """Add a session for one connection, which must call `connected` at once.

        Raises: ConsoleRefusedError when there are MAX_SESSIONS.
        """
        self._add(session, None, "")

    def _add(self, session: ConsoleSession, browser: bytes | None, address: str) -> None:
        self.sweep()
        if len(self._grants) >= MAX_SESSIONS:
            self.on_ended(session.session_id, "too many sessions")
            raise ConsoleRefusedError(BrowserRefusal.TOO_MANY)
        expires_at_s = self.now_s() + session.lifetime_s
        self._grants[session.session_id] = _Grant(session, expires_at_s, browser, source_of_address(address))

    def find(self, session_id: str, cookie: str | None, address: str) -> ConsoleSession:
        """Return the session that this cookie may open from this address.

        Raises: ConsoleRefusedError when it may not.
        """
        browser = _digest(cookie)
        ended, refusal = self._ended_grants.get(session_id, (None, BrowserRefusal.SESSION_ENDED))
        if ended is not None and browser is not None and ended.browser == browser:
            raise ConsoleRefusedError(refusal)
        held = [grant for grant in self._grants.values() if browser is not None and grant.browser == browser]
        if not held:
            raise ConsoleRefusedError(BrowserRefusal.SESSION_ENDED)
        for grant in held:
            if grant.session.session_id == session_id:
                if grant.expires_at_s <= self.now_s():
                    raise ConsoleRefusedError(BrowserRefusal.SESSION_ENDED)
                if self.binds_address and grant.source != source_of_address(address):
                    raise ConsoleRefusedError(BrowserRefusal.OTHER_ADDRESS)
                return grant.session
        raise ConsoleRefusedError(BrowserRefusal.OTHER_MACHINE)

    def lifetime_left_s(self, cookie: str) -> float:
        """Return the cookie's lifetime in seconds: the longest of its sessions."""
        browser = _digest(cookie)
        ends = [grant.expires_at_s for grant in self._grants.values() if grant.browser == browser]
        return max(0.0, max(ends, default=0.0) - self.now_s())

    def connected(self, session_id: str) -> None:
        self._grants[session_id].connections += 1

    def disconnected(self, session_id: str, reason: str) -> None:
        grant = self._grants.get(session_id)
        if grant is None:
            return
        grant.connections -= 1
        if not self._is_alive(grant):
            self.end(session_id, reason)

    def end(
        self, session_id: str, reason: str, refusal: BrowserRefusal = BrowserRefusal.SESSION_ENDED
    ) -> None:
        """End the session before its lifetime is over; the caller closes its connections.

        Its browser is refused with `refusal` until the session would have expired.
        """
        grant = self._grants.pop(session_id, None)
        if grant is None:
            return
        if refusal is not BrowserRefusal.SESSION_ENDED and grant.browser is not None:
            if len(self._ended_grants) >= MAX_SESSIONS:
                self._ended_grants.pop(next(iter(self._ended_grants)))
            self._ended_grants[session_id] = (grant, refusal)
        self.on_ended(session_id, reason)

    def sweep(self) -> None:
        """End sessions that have no connection and cannot be opened again."""
        for session_id, grant in list(self._grants.items()):
            if grant.connections == 0 and not self._is_alive(grant):
                self.end(session_id, "its lifetime is over")
        for session_id, (grant, _) in list(self._ended_grants.items()):
            if grant.expires_at_s <= self.now_s():
                del self._ended_grants[session_id]

    def session_ids(self) -> list[str]:
        return list(self._grants)

    def _is_alive(self, grant: _Grant) -> bool:
        return grant.connections > 0 or (grant.browser is not None and grant.expires_at_s > self.now_s())


def _digest(cookie: str | None) -> bytes | None:
    """Return the digest by which a cookie is stored and compared: neither memory nor timing reveals it."""
    return None if cookie is None else hashlib.sha256(cookie.encode("utf-8")).digest()
