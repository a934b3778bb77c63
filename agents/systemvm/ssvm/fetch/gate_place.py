# SPDX-License-Identifier: Apache-2.0
"""The place of one job in the gate: taken, lent to others while its store stalls, and given back."""

from __future__ import annotations

from systemvm.ssvm.fetch.cancellation import Cancellation
from systemvm.ssvm.fetch.job_gate import JobGate
from systemvm.ssvm.fetch.transfer_progress import TransferProgress
from systemvm.ssvm.limits import GIB

LARGE_BYTES = 4 * GIB  # such downloads leave a place to smaller ones


class GatePlace:
    """One job's relation to the gate, which never learns of jobs."""

    def __init__(self, gate: JobGate, progress: TransferProgress, cancellation: Cancellation) -> None:
        self._gate = gate
        self._progress = progress
        self._cancellation = cancellation
        self._is_large = False

    async def enter(self) -> None:
        """Wait until the gate admits another job; one that has entered must `leave`."""
        if self._gate.is_full:
            self._progress.add_step("is queued: other downloads use the capacity of this machine")
        await self._cancellation.run(self._gate.enter())

    async def enter_as(self, total_bytes: int | None) -> bool:
        """Count the job as large when it is; return whether it had to wait for that."""
        if (total_bytes or 0) < LARGE_BYTES or self._is_large:
            return False
        self._is_large = True
        if not self._gate.has_large_place:
            self._progress.wait_for_turn()
        waited: bool = await self._cancellation.run(self._gate.enter_large())
        self._progress.stop_waiting_for_turn()
        return waited

    def store_stalls(self, stalls: bool) -> None:
        """Give the place to others while the mover waits for its store."""
        if stalls and not self._progress.state.status.waits_for_store:
            self._gate.leave()
            self._progress.wait_for_store()
        elif not stalls and self._progress.state.status.waits_for_store:
            self._gate.enter_at_once()
            self._progress.stop_waiting_for_store()

    def leave(self) -> None:
        """Give everything back."""
        self.store_stalls(False)
        if self._is_large:
            self._is_large = False
            self._gate.leave_large()
        self._gate.leave()
