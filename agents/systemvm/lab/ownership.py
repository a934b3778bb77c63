# SPDX-License-Identifier: Apache-2.0
"""One lab a root at a time: a lock that the kernel drops with its holder, and the holder's number in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
from pathlib import Path

from systemvm.lab.errors import LabError


class Ownership:
    """Held from before the first namespace is made until after the last is gone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def take(self) -> None:
        """LabError when another process holds it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise LabError(
                f"a cloud of {self._path.parent.parent} is up already (pid {self.holder()})",
                "use it, or end it with `make stop`",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def drop(self) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> int | None:
        """Who holds it, if anybody does."""
        try:
            with self._path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return None
        except BlockingIOError:
            with contextlib.suppress(ValueError):
                return int(self._path.read_text())
        return None

    def ask_to_end(self, timeout_s: float) -> None:
        """SIGTERM to the holder, which cleans up; fine when there is none."""
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
                    raise LabError(f"the cloud of pid {pid} does not end within {timeout_s:g} s")
        finally:
            os.close(descriptor)
