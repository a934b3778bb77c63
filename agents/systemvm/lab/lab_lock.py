# SPDX-License-Identifier: Apache-2.0
"""Allows one lab for each root: a file lock that ends with its holder, with the holder's process id."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
from pathlib import Path

from systemvm.lab.errors import LabError


class LabLock:
    """Held from before the first namespace is made until the last is removed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        return self._descriptor is not None

    def acquire(self) -> None:
        """Take the lock.

        Raises: LabError when another process holds it.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise LabError(
                f"a cloud already runs in {self._path.parent.parent} (pid {self.holder()})",
                'use it, or run "make stop"',
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Release the lock if it is held."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> int | None:
        """Return the process id of the holder, None if there is none."""
        try:
            with self._path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return None
        except BlockingIOError:
            with contextlib.suppress(ValueError):
                return int(self._path.read_text())
        return None

    def terminate_holder(self, timeout_s: float) -> None:
        """Send SIGTERM to the holder, which cleans up; do nothing if there is none.

        Raises: LabError when it does not end within `timeout_s`.
        """
        pid = self.holder()
        if pid is None or pid == os.getpid():
            return
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if self.holder() == pid:
                signal.pidfd_send_signal(descriptor, signal.SIGTERM)
                waiting = select.poll()
                waiting.register(descriptor, select.POLLIN)
                if not waiting.poll(timeout_s * 1000):
                    raise LabError(f"the cloud of pid {pid} did not end within {timeout_s:g} s")
        finally:
            os.close(descriptor)
