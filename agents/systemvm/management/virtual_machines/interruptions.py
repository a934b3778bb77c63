# SPDX-License-Identifier: Apache-2.0
"""Ends what waits for something on behalf of a VM, when the VM is destroyed or stopped meanwhile."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from systemvm.service.errors import SystemVmError

T = TypeVar("T")


class Interruptions:
    """Who waits, by the id of the VM."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[Deferred[Any]]] = {}

    async def unless_interrupted(self, vm_id: int, work: Coroutine[Any, Any, T]) -> T:
        """Wait for work, which continues without its caller when the wait is interrupted.

        Raises: the error of the interruption.
        """
        outcome: Deferred[T] = Deferred()
        waiting = self._waiting.setdefault(vm_id, [])
        waiting.append(outcome)
        Deferred.fromCoroutine(work).addBoth(_end, outcome)
        try:
            return await outcome
        finally:
            waiting.remove(outcome)
            if not waiting:
                del self._waiting[vm_id]

    def interrupt(self, vm_id: int, error: SystemVmError) -> None:
        """End the waits for a VM."""
        for outcome in list(self._waiting.get(vm_id, ())):
            if not outcome.called:
                outcome.errback(error)


def _end(result: Any, outcome: Deferred[Any]) -> None:
    if outcome.called:
        return  # nobody waits for it any more
    if isinstance(result, Failure):
        outcome.errback(result)
    else:
        outcome.callback(result)
