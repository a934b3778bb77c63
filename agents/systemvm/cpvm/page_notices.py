# SPDX-License-Identifier: Apache-2.0
"""Tells the pages of sessions what has changed for them: who watches, and a new address of the proxy.

Who watches has a session and a connection to the screen of its own, so nothing of the watched session waits
for it. Only the console's own page is told: other clients do not expect messages.

A session goes on under the address that it was opened at, but its page cannot come back there: the browser
has the session's secret for that address only.
"""

from __future__ import annotations

from collections.abc import Mapping

from systemvm.cpvm.console_connection import ConsoleConnection
from systemvm.cpvm.grants import Grants
from systemvm.cpvm.public_side import PublicSide


class PageNotices:
    """Knows from the sessions and their connections what each page must be told."""

    def __init__(
        self, grants: Grants, connections: Mapping[str, ConsoleConnection], public: PublicSide
    ) -> None:
        self._grants = grants
        self._connections = connections
        self._public = public

    def update(self, session_id: str) -> None:
        """Tell a session's page when something has changed; while it does not read, a later call does."""
        grant, connection = self._grants.get(session_id), self._connections.get(session_id)
        if grant is None or grant.secret is None or connection is None:
            return
        is_watched = self._grants.limits.tells_watched and self._is_watched(session_id)
        if is_watched != connection.is_told and connection.notify(
            {"notice": "watched" if is_watched else "unwatched"}
        ):
            connection.is_told = is_watched
        has_moved = self._public.url != connection.page_url
        if has_moved != connection.is_told_moved and connection.notify(
            {"notice": "moved" if has_moved else "unmoved"}
        ):
            connection.is_told_moved = has_moved

    def update_all(self) -> None:
        for session_id in list(self._connections):
            self.update(session_id)

    def _is_watched(self, session_id: str) -> bool:
        return any(watcher in self._connections for watcher in self._grants.watchers_of(session_id))
