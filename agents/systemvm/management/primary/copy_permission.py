# SPDX-License-Identifier: Apache-2.0
"""Whether templates are copied into a directory; what is being copied ends when that is refused."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from systemvm.management.primary.qemu_img import PrimaryStorageError

#: Makes the error of a copy that is refused.
Reason = Callable[[], PrimaryStorageError]


class CopyPermission:
    """Asked by each copy before it begins, while it runs and before it is complete."""

    def __init__(self) -> None:
        self._refusal: Reason | None = None
        self._running: dict[Deferred[None], Reason | None] = {}

    def refuse(self, reason: Reason) -> None:
        """Refuse copies from now on, and end those in progress."""
        self._refusal = reason
        for running in list(self._running):
            self._running[running] = reason
            running.cancel()

    def permit(self) -> None:
        """Undo `refuse` for copies that begin from now on."""
        self._refusal = None

    def check(self) -> None:
        """Do nothing while copies are permitted. Threads call it, too.

        Raises: PrimaryStorageError with the reason when they are refused.
        """
        if (refusal := self._refusal) is not None:
            raise refusal()

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do work for a copy, and cancel it when copies are refused.

        Raises: PrimaryStorageError with the reason when they are refused.
        """
        self.check()
        running = Deferred.fromCoroutine(work())
        self._running[running] = None
        try:
            await running
        except CancelledError:
            if (reason := self._running[running]) is not None:
                raise reason() from None
            raise  # the daemon ends
        finally:
            del self._running[running]
