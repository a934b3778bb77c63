# SPDX-License-Identifier: Apache-2.0
"""Tells users while an administrator watches their session, where the zone wants that.

Who watches has a session and a connection to the screen of its own, so nothing of the watched session waits
for it. Only the console's own page is told: other clients do not expect messages.
"""

from __future__ import annotations

from collections.abc import Mapping

from systemvm.cpvm.console_connection import ConsoleConnection
from systemvm.cpvm.grants import Grants


class Supervision:
    """Knows from the sessions and their connections who is watched now."""

    def __init__(self, grants: Grants, connections: Mapping[str, ConsoleConnection]) -> None:
        self._grants = grants
        self._connections = connections

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

    def _is_watched(self, session_id: str) -> bool:
        return any(watcher in self._connections for watcher in self._grants.watchers_of(session_id))
