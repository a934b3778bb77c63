# SPDX-License-Identifier: Apache-2.0
"""Which browsers may open which consoles, and until when.

A spent token makes a session. A browser that spent it by POST keeps it by cookie, may connect again while the
session lives, and may hold several, so that consoles in two tabs do not take each other's place. A session
that was opened by a token on the WebSocket's own address has no cookie: it ends with its connection.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable

from attrs import define, field

from systemvm.cpvm.refusal import Refusal, RefusedError
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
    """All sessions of this CPVM; `on_ended` hears each one's end once, with the reason."""

    now_s: Callable[[], float]
    on_ended: Callable[[str, str], None]
    #: A cookie works from the address alone that it was given to; the zone's configuration says so.
    binds_address: bool = False
    _grants: dict[str, _Grant] = field(factory=dict, init=False, repr=False)
    #: Why sessions were ended before their time, for their own browsers to read; the oldest are dropped.
    _endings: dict[str, tuple[_Grant, Refusal]] = field(factory=dict, init=False, repr=False)

    def admit(self, session: ConsoleSession, cookie: str | None, address: str) -> str:
        """Keep the session for a browser; answers the cookie to set, its own when it is known here."""
        browser = _digest(cookie)
        if cookie is None or not any(grant.browser == browser for grant in self._grants.values()):
            cookie = secrets.token_urlsafe(32)
        self._keep(session, _digest(cookie), address)
        return cookie

    def admit_once(self, session: ConsoleSession) -> None:
        """Keep the session for a single connection, which must be counted at once."""
        self._keep(session, None, "")

    def _keep(self, session: ConsoleSession, browser: bytes | None, address: str) -> None:
        self.sweep()
        if len(self._grants) >= MAX_SESSIONS:
            self.on_ended(session.session_id, "too many sessions")
            raise RefusedError(Refusal.TOO_MANY)
        expires_at_s = self.now_s() + session.lifetime_s
        self._grants[session.session_id] = _Grant(session, expires_at_s, browser, source_of_address(address))

    def find(self, session_id: str, cookie: str | None, address: str) -> ConsoleSession:
        """The session, when this browser may connect to it now from this address; raises RefusedError."""
        browser = _digest(cookie)
        ended, refusal = self._endings.get(session_id, (None, Refusal.SESSION_ENDED))
        if ended is not None and browser is not None and ended.browser == browser:
            raise RefusedError(refusal)
        held = [grant for grant in self._grants.values() if browser is not None and grant.browser == browser]
        if not held:
            raise RefusedError(Refusal.SESSION_ENDED)
        for grant in held:
            if grant.session.session_id == session_id:
                if grant.expires_at_s <= self.now_s():
                    raise RefusedError(Refusal.SESSION_ENDED)
                if self.binds_address and grant.source != source_of_address(address):
                    raise RefusedError(Refusal.OTHER_ADDRESS)
                return grant.session
        raise RefusedError(Refusal.OTHER_MACHINE)

    def lifetime_left_s(self, cookie: str) -> float:
        """How long the browser must keep its cookie: as long as the longest of its sessions."""
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
        if not self._may_connect_again(grant):
            self.end(session_id, reason)

    def end(self, session_id: str, reason: str, refusal: Refusal = Refusal.SESSION_ENDED) -> None:
        """The session is over, whatever its lifetime says; open connections are the caller's to close.

        Its browser is refused with `refusal` as long as the session would have lasted.
        """
        grant = self._grants.pop(session_id, None)
        if grant is None:
            return
        if refusal is not Refusal.SESSION_ENDED and grant.browser is not None:
            if len(self._endings) >= MAX_SESSIONS:
                self._endings.pop(next(iter(self._endings)))
            self._endings[session_id] = (grant, refusal)
        self.on_ended(session_id, reason)

    def sweep(self) -> None:
        """End what can neither be seen nor opened any more."""
        for session_id, grant in list(self._grants.items()):
            if grant.connections == 0 and not self._may_connect_again(grant):
                self.end(session_id, "its lifetime is over")
        for session_id, (grant, _) in list(self._endings.items()):
            if grant.expires_at_s <= self.now_s():
                del self._endings[session_id]

    def session_ids(self) -> list[str]:
        return list(self._grants)

    def _may_connect_again(self, grant: _Grant) -> bool:
        return grant.connections > 0 or (grant.browser is not None and grant.expires_at_s > self.now_s())


def _digest(cookie: str | None) -> bytes | None:
    """Cookies are kept and compared as digests: neither memory nor timing tells one."""
    return None if cookie is None else hashlib.sha256(cookie.encode("utf-8")).digest()
