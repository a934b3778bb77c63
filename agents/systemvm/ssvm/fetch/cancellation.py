# SPDX-License-Identifier: Apache-2.0
"""Aborts a job: cancels the step that it waits for, and keeps it from beginning another one."""

from __future__ import annotations

import socket
from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from systemvm.ssvm.failure import TransferError
from systemvm.wire.transfer_failure import TransferFailure


def aborted_error() -> TransferError:
    """Return the error that an aborted job ends with."""
    return TransferError(TransferFailure.ABORTED, "the download was aborted")


def unless_cancelled(connecting: Deferred[socket.socket]) -> Deferred[socket.socket]:
    """Return what `connecting` returns; it is closed when it comes after the returned one was cancelled."""
    waiter: Deferred[socket.socket] = Deferred()

    def opened(connection: socket.socket) -> None:
        if waiter.called:
            connection.close()
        else:
            waiter.callback(connection)

    def failed(failure: Failure) -> None:
        if not waiter.called:
            waiter.errback(failure)

    connecting.addCallbacks(opened, failed)
    return waiter


class Cancellation:
    """The abort flag of one job, and the step that can be cancelled at present."""

    def __init__(self) -> None:
        self.is_aborted = False
        self._step: Deferred[Any] | None = None

    async def run(self, step: Deferred[Any] | Coroutine[Any, Any, Any]) -> Any:
        """Wait for a step that `cancel` ends.

        Raises: TransferError `aborted` when it was cancelled.
        """
        self._step = step if isinstance(step, Deferred) else Deferred.fromCoroutine(step)
        try:
            return await self._step
        except CancelledError:
            raise aborted_error() from None
        finally:
            self._step = None

    def cancel(self) -> None:
        """Cancel the step that is being waited for, if there is one."""
        if self._step is not None:
            self._step.cancel()

    def abort(self) -> None:
        """Mark the job as aborted; the caller decides what has to be cancelled or killed."""
        self.is_aborted = True

    def check_not_aborted(self) -> None:
        """Check that the job was not aborted.

        Raises: TransferError `aborted` when the job was aborted.
        """
        if self.is_aborted:
            raise aborted_error()
