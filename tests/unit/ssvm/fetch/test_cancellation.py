# SPDX-License-Identifier: Apache-2.0
"""Aborting a job during a step."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.cancellation import Cancellation, unless_cancelled
from systemvm.wire.transfer_failure import TransferFailure


def test_a_cancelled_step_is_an_aborted_job() -> None:
    cancellation = Cancellation()
    step: Deferred[int] = Deferred()
    outcome: list[Any] = []
    running = Deferred.fromCoroutine(cancellation.run(step))
    running.addErrback(lambda failure: failure.value).addCallback(outcome.append)
    cancellation.cancel()
    assert outcome[0].code is TransferFailure.ABORTED


def test_a_step_keeps_its_result_and_cannot_be_cancelled_afterwards() -> None:
    cancellation = Cancellation()
    step: Deferred[int] = Deferred()
    outcome: list[int] = []
    Deferred.fromCoroutine(cancellation.run(step)).addCallback(outcome.append)
    step.callback(7)
    cancellation.cancel()
    assert outcome == [7]


def test_no_step_begins_after_an_abort() -> None:
    cancellation = Cancellation()
    cancellation.check_not_aborted()
    cancellation.abort()
    with pytest.raises(TransferError):
        cancellation.check_not_aborted()


def test_a_socket_that_comes_after_an_abort_is_closed() -> None:
    """A thread that connects cannot be cancelled; an abort does not wait for it."""
    ours, theirs = socket.socketpair()
    connecting: Deferred[socket.socket] = Deferred()
    cancellation = Cancellation()
    running = Deferred.fromCoroutine(cancellation.run(unless_cancelled(connecting)))
    cancellation.cancel()
    running.addErrback(lambda failure: failure.trap(TransferError))
    assert running.called
    connecting.callback(ours)
    assert ours.fileno() == -1
    theirs.close()
