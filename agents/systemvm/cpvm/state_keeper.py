# SPDX-License-Identifier: Apache-2.0
"""Keeps the state of a console server across restarts of its process."""

from __future__ import annotations

from pathlib import Path

from twisted.logger import Logger

from systemvm.cpvm.drain import Drain
from systemvm.cpvm.grants import Grants
from systemvm.cpvm.saved_state import SavedProxy, SavedSession, SavedState
from systemvm.cpvm.session_journal import JournalLine, SessionJournal


class StateKeeper:
    """Restores sessions, limits and drain from a file, and saves each change."""

    log = Logger()

    def __init__(self, path: Path, grants: Grants, drain: Drain) -> None:
        self._grants = grants
        self._drain = drain
        self._journal = SessionJournal(path, self._state)

    def restore(self) -> None:
        """Continue where the process before has ended; to be called once, before anything else."""
        state = self._journal.read()
        self._grants.limits = state.proxy.limits
        self._grants.on_changed = self._save_session
        self._grants.restore(state.sessions)
        if state.proxy.drain_end_at_s is not None:
            self._drain.begin(state.proxy.drain_end_at_s)
        waiting = len(self._grants.session_ids())
        if waiting:
            self.log.info("{count} sessions wait for their browsers after a restart", count=waiting)

    def save_proxy(self) -> None:
        """Save limits and drain."""
        self._journal.write(JournalLine(proxy=self._proxy()))

    def _save_session(self, session: SavedSession) -> None:
        self._journal.write(JournalLine(session))

    def _proxy(self) -> SavedProxy:
        return SavedProxy(self._grants.limits, self._drain.ends_at_s)

    def _state(self) -> SavedState:
        return SavedState(self._proxy(), self._grants.saved())
