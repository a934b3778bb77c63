# SPDX-License-Identifier: Apache-2.0
"""What a restarted console server continues with: sessions, their secrets as digests, limits and drain.

Times are the monotonic clock's, which goes on as long as the machine runs.
"""

from __future__ import annotations

from attrs import field, frozen

from systemvm.wire.console import ConsoleSession, SessionLimits


@frozen
class SavedSecret:
    """The digests of a session's secrets; both of an undecided connection are valid."""

    valid: list[bytes] = field(repr=False)
    replaced: list[bytes] = field(factory=list, repr=False)


@frozen
class SavedSession:
    """A session whose browser can come back, or one that has ended, with the reason for its browser."""

    session: ConsoleSession
    expires_at_s: float
    client_address: str
    source: str
    secret: SavedSecret
    sent_bytes: int = 0
    received_bytes: int = 0
    ended: str = ""  # the name of a BrowserRefusal

    @property
    def session_id(self) -> str:
        return self.session.session_id


@frozen
class SavedProxy:
    """What holds for all sessions; the daemon says it again when it is connected."""

    limits: SessionLimits = field(factory=SessionLimits)
    drain_end_at_s: float | None = None  # None: not draining


@frozen
class SavedState:
    """Everything that is saved."""

    proxy: SavedProxy = field(factory=SavedProxy)
    sessions: list[SavedSession] = field(factory=list)
