# SPDX-License-Identifier: Apache-2.0
"""Ends what waits for something on behalf of a VM, when the VM is destroyed meanwhile."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from systemvm.management.state.instances import Instance
from systemvm.management.virtual_machines.errors import MachineStateError

T = TypeVar("T")


class Destructions:
    """Who waits, by the id of the VM."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[Deferred[Any]]] = {}

    async def unless_destroyed(self, vm_id: int, work: Coroutine[Any, Any, T]) -> T:
        """Wait for work, which continues without its caller when the VM is destroyed.

        Raises: MachineStateError when it is destroyed meanwhile.
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

    def record(self, vm: Instance) -> None:
        """End the waits for a VM that was destroyed."""
        for outcome in list(self._waiting.get(vm.id, ())):
            if not outcome.called:
                outcome.errback(
                    MachineStateError(f"{vm.name} was destroyed meanwhile", "recover it, and try again")
                )


def _end(result: Any, outcome: Deferred[Any]) -> None:
    if outcome.called:
        return  # nobody waits for it any more
    if isinstance(result, Failure):
        outcome.errback(result)
    else:
        outcome.callback(result)
