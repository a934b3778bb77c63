# SPDX-License-Identifier: Apache-2.0
"""Saves the console server's state in a file that outlives its process, one line for each change.

The file is in the unit's runtime directory, which systemd keeps while the unit restarts; it is a tmpfs, so
nothing of it is on a disk. The last line of a session counts. Lines are appended by one write, which a killed
process has made or not; when most lines are outdated, the file is written anew and renamed.

Without space the server goes on and saves nothing: the daemon refuses whatever has ended, at each connection.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
from attrs import frozen
from twisted.logger import Logger

from systemvm.cpvm.saved_state import SavedProxy, SavedSession, SavedState

#: The file is written anew when it is longer than this, and than four times what it was the last time.
LEAST_BYTES = 256 * 1024


@frozen
class JournalLine:
    """One change: of a session, or of what holds for all."""

    session: SavedSession | None = None
    proxy: SavedProxy | None = None


class SessionJournal:
    """The file of one server; `snapshot` returns its whole state, the change included that is written."""

    log = Logger()

    def __init__(self, path: Path, snapshot: Callable[[], SavedState]) -> None:
        self._path = path
        self._snapshot = snapshot
        self._descriptor: int | None = None
        self._size_bytes = 0
        self._limit_bytes = LEAST_BYTES
        self._is_failing = False

    def read(self) -> SavedState:
        """Return what was saved; lines that cannot be read are skipped."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return SavedState()
        except OSError as error:
            self.log.warn("cannot read {path}: {error}", path=self._path, error=error)  # noqa: G010
            return SavedState()
        proxy, sessions = SavedProxy(), dict[str, SavedSession]()
        for text in lines:
            with contextlib.suppress(msgspec.DecodeError):
                line = msgspec.json.decode(text, type=JournalLine)
                proxy = line.proxy or proxy
                if line.session is not None:
                    sessions.pop(line.session.session_id, None)
                    sessions[line.session.session_id] = line.session
        return SavedState(proxy, list(sessions.values()))

    def write(self, line: JournalLine) -> None:
        """Save a change."""
        try:
            if self._descriptor is None or self._size_bytes > self._limit_bytes:
                self._write_anew()
            else:
                self._append(self._descriptor, _encoded(line))
        except OSError as error:
            self.close()  # what would be appended to half a line would be lost with it
            if not self._is_failing:
                self.log.warn("cannot save sessions in {path}: {error}", path=self._path, error=error)  # noqa: G010
            self._is_failing = True
        else:
            self._is_failing = False

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _append(self, descriptor: int, data: bytes) -> None:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size_bytes += len(data)

    def _write_anew(self) -> None:
        self.close()
        state = self._snapshot()
        lines = [JournalLine(proxy=state.proxy), *(JournalLine(session) for session in state.sessions)]
        new = self._path.with_name(f"{self._path.name}.new")
        self._size_bytes = 0
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._descriptor = descriptor
        self._append(descriptor, b"".join(map(_encoded, lines)))
        new.rename(self._path)
        self._limit_bytes = max(LEAST_BYTES, 4 * self._size_bytes)


def _encoded(line: JournalLine) -> bytes:
    return msgspec.json.encode(line) + b"\n"
