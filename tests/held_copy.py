# SPDX-License-Identifier: Apache-2.0
"""A copy of a file to primary storage that stops in its middle."""

from __future__ import annotations

import threading

import pytest
from twisted.internet.threads import deferToThread

from systemvm.management.primary import atomic_copy


class HeldCopy:
    """The next copy waits in its thread for `go_on`, when it has written a part of the file."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._begun = threading.Event()
        self._released = threading.Event()
        write = atomic_copy._write_sparse

        def hold(descriptor: int, chunk: bytes) -> None:
            write(descriptor, chunk)
            self._begun.set()
            self._released.wait()

        patch.setattr(atomic_copy, "_write_sparse", hold)

    async def begun(self) -> None:
        await deferToThread(self._begun.wait)

    def go_on(self) -> None:
        self._released.set()
