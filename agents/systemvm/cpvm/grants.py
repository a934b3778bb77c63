# SPDX-License-Identifier: Apache-2.0
"""The sessions of this CPVM: which browser may connect to them, and until when.

A spent token makes a session, which has one connection at most. A browser that spent its token by POST has a
secret (`reconnect_secret`) and can come back after its connection was lost. A session that was opened by a
token at the WebSocket address has none: it ends with its connection.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from attrs import define, evolve, field

from systemvm.cpvm.reconnect_secret import ReconnectSecret, SecretCheck
from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.cpvm.saved_state import SavedSession
from systemvm.service.connection_limits import source_of_address
from systemvm.wire.console import ConsoleSession, LiveSession, SessionLimits

MAX_ENDED = 2000
#: A new session waits at least this long for its first connection.
FIRST_CONNECTION_S = 30.0
#: A console whose machine does not run waits this many times longer for the next attempt: browsers delay the
#: timers of hidden tabs to one a minute.
WAITING_FACTOR = 3.0
#: How often the traffic of a session is saved.
SAVE_EVERY_S = 60.0


@define
class Grant:
    """A session that lives."""

    session: ConsoleSession
    expires_at_s: float
    client_address: str  # of its newest connection
    source: str  # where its token was spent from: an IPv4 address, or an IPv6 /64
    input_at_s: float  # when its user last sent input
    secret: ReconnectSecret | None  # None: it ends with its connection
    ends_unless_back_s: float | None  # None while it is connected
    warned: str = ""  # of which timeout its user was warned last
    sent_bytes: int = 0
    received_bytes: int = 0
    saved_at_s: float = 0.0

    @property
    def is_connected(self) -> bool:
        return self.ends_unless_back_s is None

    def as_live(self, now_s: float) -> LiveSession:
        return LiveSession(
            self.session.session_id,
            self.client_address,
            self.is_connected,
            round(now_s - self.input_at_s, 1),
            self.sent_bytes,
            self.received_bytes,
        )


def _not_saved(saved: SavedSession) -> None:
    """Stand for `on_changed` where no state is saved."""


@define
class Grants:
    """All sessions; `on_ended` is called once at the end of each, with the reason.

    `on_changed` is called with each state that a restarted server must continue with.
    """

    now_s: Callable[[], float]
    on_ended: Callable[[Grant, BrowserRefusal, str], None]
    limits: SessionLimits = field(factory=SessionLimits)
    on_changed: Callable[[SavedSession], None] = _not_saved
    #: A secret is valid only from the address that the token came from; set in the zone's configuration.
    binds_address: bool = False
    _grants: dict[str, Grant] = field(factory=dict, init=False, repr=False)
    _watchers: dict[str, set[str]] = field(factory=dict, init=False, repr=False)  # by the watched session
    #: Refusals of sessions that ended early, for their own browsers; the oldest are dropped.
    _ended_grants: dict[str, tuple[Grant, BrowserRefusal]] = field(factory=dict, init=False, repr=False)

    @property
    def is_full(self) -> bool:
        if len(self._grants) >= self.limits.max_sessions:
            self.sweep()
        return len(self._grants) >= self.limits.max_sessions

    def admit(self, session: ConsoleSession, address: str) -> str:
        """Add a session for a browser, and return its first secret.

        Raises: ConsoleRefusedError when there are as many sessions as the zone permits.
        """
        secret = ReconnectSecret()
        first = secret.first()
        self._add(session, address, secret)
        return first

    def admit_once(self, session: ConsoleSession, address: str) -> None:
        """Add a session for one connection, which must call `connected` at once.

        Raises: ConsoleRefusedError when there are as many sessions as the zone permits.
        """
        self._add(session, address, None)

    def _add(self, session: ConsoleSession, address: str, secret: ReconnectSecret | None) -> None:
        now_s, is_full = self.now_s(), self.is_full
        grant = Grant(
            session,
            expires_at_s=now_s + session.lifetime_s,
            client_address=address,
            source=source_of_address(address),
            input_at_s=now_s,
            secret=secret,
            ends_unless_back_s=now_s + max(FIRST_CONNECTION_S, self.limits.reconnect_s),
        )
        if is_full:
            self.on_ended(grant, BrowserRefusal.TOO_MANY, "too many sessions")
            raise ConsoleRefusedError(BrowserRefusal.TOO_MANY)
        if session.watches and session.watches not in self._grants:
            self.on_ended(grant, BrowserRefusal.WATCHED_ENDED, "the session that it watches has ended")
            raise ConsoleRefusedError(BrowserRefusal.WATCHED_ENDED)
        self._put(grant)
        self._save(grant)

    def _put(self, grant: Grant) -> None:
        session = grant.session
        self._grants[session.session_id] = grant
        if session.watches:
            self._watchers.setdefault(session.watches, set()).add(session.session_id)

    def claim(self, session_id: str, secret: str | None, address: str) -> tuple[ConsoleSession, str]:
        """Return the session for a browser that connects to it, and the browser's next secret.

        The caller ends the session's connection of before, and calls `connected`.

        Raises: ConsoleRefusedError when the browser may not connect.
        """
        grant = self.find(session_id, secret, address)
        if grant.secret is None or secret is None:  # find admits nobody to it
            raise ConsoleRefusedError(BrowserRefusal.SESSION_ENDED)
        if grant.secret.is_undecided:
            raise ConsoleRefusedError(BrowserRefusal.RECONNECTING)
        grant.client_address = address
        issued = grant.secret.issue(secret)
        self._save(grant)  # before the browser has it
        return grant.session, issued

    def find(self, session_id: str, secret: str | None, address: str) -> Grant:
        """Return the session of this secret.

        Raises: ConsoleRefusedError when there is none, or the secret was replaced.
        """
        ended, refusal = self._ended_grants.get(session_id, (None, BrowserRefusal.SESSION_ENDED))
        if ended is not None and _check(ended, secret) is not SecretCheck.WRONG:
            raise ConsoleRefusedError(refusal)
        grant = self._grants.get(session_id)
        if grant is None or grant.expires_at_s <= self.now_s():
            raise ConsoleRefusedError(BrowserRefusal.SESSION_ENDED)
        match _check(grant, secret):
            case SecretCheck.WRONG:  # as if there were no such session
                raise ConsoleRefusedError(BrowserRefusal.SESSION_ENDED)
            case SecretCheck.REPLACED:
                raise ConsoleRefusedError(BrowserRefusal.CONTINUED_ELSEWHERE)
        if self.binds_address and grant.source != source_of_address(address):
            raise ConsoleRefusedError(BrowserRefusal.OTHER_ADDRESS)
        return grant

    def lifetime_left_s(self, session_id: str) -> float:
        grant = self._grants.get(session_id)
        return 0.0 if grant is None else max(0.0, grant.expires_at_s - self.now_s())

    def connected(self, session_id: str) -> None:
        self._grants[session_id].ends_unless_back_s = None

    def confirmed(self, session_id: str) -> None:
        """The browser has received the secret of its connection."""
        grant = self._grants.get(session_id)
        if grant is not None and grant.secret is not None:
            grant.secret.confirm()
            self._save(grant)

    def disconnected(self, session_id: str, why: BrowserRefusal | None, reason: str) -> None:
        """The session's only connection is gone; the session waits for its browser, if it has a secret."""
        grant = self._grants.get(session_id)
        if grant is None:
            return
        if grant.secret is None or self.limits.reconnect_s <= 0:
            self.end(session_id, reason, why or BrowserRefusal.SESSION_ENDED)
            return
        grant.secret.give_up()
        factor = WAITING_FACTOR if why is not None and why.is_transient else 1.0
        grant.ends_unless_back_s = self.now_s() + factor * self.limits.reconnect_s
        self._save(grant)

    def end(
        self, session_id: str, reason: str, refusal: BrowserRefusal = BrowserRefusal.SESSION_ENDED
    ) -> None:
        """End the session; the caller closes its connection.

        Its browser is refused with `refusal` until the session would have expired.
        """
        grant = self._grants.pop(session_id, None)
        if grant is None:
            return
        watchers = self._watchers.get(grant.session.watches)
        if watchers is not None:
            watchers.discard(session_id)
        if refusal is not BrowserRefusal.SESSION_ENDED and grant.secret is not None:
            if len(self._ended_grants) >= MAX_ENDED:
                self._ended_grants.pop(next(iter(self._ended_grants)))
            self._ended_grants[session_id] = (grant, refusal)
        self._save(grant, refusal)
        self.on_ended(grant, refusal, reason)
        self._watchers.pop(session_id, None)

    def sweep(self) -> None:
        """End sessions whose browser did not come back."""
        now_s = self.now_s()
        for session_id, grant in list(self._grants.items()):
            if grant.is_connected:
                continue
            if grant.expires_at_s <= now_s:
                self.end(session_id, "its time is over", BrowserRefusal.SESSION_OVER)
            elif (grant.ends_unless_back_s or 0.0) <= now_s:
                self.end(session_id, "the browser did not come back", BrowserRefusal.NOT_BACK)
        for session_id, (grant, _) in list(self._ended_grants.items()):
            if grant.expires_at_s <= now_s:
                del self._ended_grants[session_id]

    def watchers_of(self, session_id: str) -> list[str]:
        """Return the sessions that watch this one."""
        return sorted(self._watchers.get(session_id, ()))

    # -- what outlives the process

    def _save(self, grant: Grant, ended: BrowserRefusal | None = None) -> None:
        if grant.secret is not None:
            grant.saved_at_s = self.now_s()
            self.on_changed(_saved(grant, ended))

    def save_traffic(self, session_id: str) -> None:
        """Save a session again when that was long ago; to be called every few seconds."""
        grant = self._grants.get(session_id)
        if grant is not None and self.now_s() - grant.saved_at_s >= SAVE_EVERY_S:
            self._save(grant)

    def saved(self) -> list[SavedSession]:
        """Return all sessions whose browser can come back, and refusals of those that ended early."""
        living = [_saved(grant) for grant in self._grants.values() if grant.secret is not None]
        return living + [_saved(grant, refusal) for grant, refusal in self._ended_grants.values()]

    def restore(self, sessions: list[SavedSession]) -> None:
        """Continue with the sessions of a process before; `wait_for_browsers` must follow."""
        now_s = self.now_s()
        for saved in sessions:
            grant = Grant(
                saved.session,
                expires_at_s=saved.expires_at_s,
                client_address=saved.client_address,
                source=saved.source,
                input_at_s=now_s,  # when it was used last is not known exactly
                secret=ReconnectSecret.restored(saved.secret),
                ends_unless_back_s=math.inf,
                sent_bytes=saved.sent_bytes,
                received_bytes=saved.received_bytes,
            )
            if not saved.ended:
                self._put(grant)
                if self.limits.reconnect_s <= 0:
                    self.end(saved.session_id, "the console proxy was restarted")
            elif saved.ended in BrowserRefusal.__members__:
                refusal = BrowserRefusal[saved.ended]
                if refusal is not BrowserRefusal.SESSION_ENDED:
                    self._ended_grants[saved.session_id] = (grant, refusal)
        for session_id, grant in list(self._grants.items()):
            if grant.session.watches and grant.session.watches not in self._grants:
                self.end(session_id, "the session that it watches is lost", BrowserRefusal.WATCHED_ENDED)

    def wait_for_browsers(self) -> None:
        """Browsers can connect now: the time begins within which those of restored sessions must be back."""
        for grant in self._grants.values():
            if grant.ends_unless_back_s == math.inf:
                grant.ends_unless_back_s = self.now_s() + WAITING_FACTOR * self.limits.reconnect_s

    def get(self, session_id: str) -> Grant | None:
        return self._grants.get(session_id)

    def all(self) -> list[Grant]:
        return list(self._grants.values())

    def session_ids(self) -> list[str]:
        return list(self._grants)


def _saved(grant: Grant, ended: BrowserRefusal | None = None) -> SavedSession:
    if grant.secret is None:
        raise RuntimeError("a session without a secret ends with its connection")
    return SavedSession(
        grant.session if grant.session.target is None else evolve(grant.session, target=None),
        grant.expires_at_s,
        grant.client_address,
        grant.source,
        grant.secret.save(),
        grant.sent_bytes,
        grant.received_bytes,
        "" if ended is None else ended.name,
    )


def _check(grant: Grant, secret: str | None) -> SecretCheck:
    return SecretCheck.WRONG if grant.secret is None else grant.secret.check(secret)
