# SPDX-License-Identifier: Apache-2.0
"""Runs one call of the other end with a deadline, and turns every failure into an `RpcError`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm.rpc.core.call import Call
from systemvm.rpc.core.deadline import Deadline
from systemvm.rpc.core.errors import DEADLINE, FORBIDDEN, INTERNAL, RpcError
from systemvm.service import host_errors
from systemvm.service.scaled_timer import ScaledTimer
from systemvm.service.slowness import scaled_s

if TYPE_CHECKING:
    from systemvm.rpc.core.method import MethodTable

_log = Logger()
_audit = Logger(namespace="systemvm.rpc.audit")


def perform(
    clock: IReactorTime, methods: MethodTable, call: Call, name: str, raw_params: object
) -> Deferred[Any]:
    """Start the handler; the Deferred fires with its result or an RpcError, at the deadline at the latest.

    The deadline is that of the method, or that of the caller in `call` if it is sooner; when it has passed,
    the handler is not started. Cancelling the Deferred cancels the handler.
    """
    try:
        method = methods.lookup(call, name)
        params = method.read_params(raw_params)
    except RpcError as error:
        _note_refusal(call, name, error)
        return _failed(error)

    if call.deadline is not None and call.deadline.has_passed:
        return _failed(RpcError(DEADLINE, f"{name} was not begun: the deadline of its caller has passed"))
    deadline_s = call.remaining_s(method.deadline_s)
    # the caller has scaled its own deadline already
    call = evolve(call, deadline=Deadline.after(clock.seconds, call.remaining_s(scaled_s(method.deadline_s))))
    overdue = False
    running: Deferred[Any] = Deferred.fromCoroutine(method.run(call, params))

    def expire() -> None:
        nonlocal overdue
        overdue = True
        running.cancel()

    timer = ScaledTimer(clock, deadline_s, expire)

    def done(result: Any) -> Any:
        timer.cancel()
        if not isinstance(result, Failure):
            return result
        if isinstance(result.value, RpcError):
            _note_refusal(call, name, result.value)
            return result
        if result.check(CancelledError) is not None:
            why = f"{name} did not finish in {timer.waited_s:g} s" if overdue else f"{name} was cancelled"
            return Failure(RpcError(DEADLINE, why))
        return Failure(report_incident(call, name, result))

    return running.addBoth(done)


def _note_refusal(call: Call, name: str, error: RpcError) -> None:
    """Log a forbidden call in the namespace of the audit log."""
    if error.code == FORBIDDEN:
        _audit.warn(
            "forbidden: {caller} ({role}) called {method}: {error} (request {request_id})",
            caller=call.caller.name,
            role=call.caller.role,
            method=name[:100],
            error=error.message[:300],
            request_id=call.request_id,
        )


def report_incident(call: Call, name: str, failure: Failure) -> RpcError:
    """Log the exception of a handler, and return the error that its caller can see."""
    incident_id = os.urandom(6).hex()
    _log.failure(
        "Incident {incident}: {method} for {caller} failed, request {request_id}",
        failure=failure,
        incident=incident_id,
        method=name,
        caller=call.caller.name,
        request_id=call.request_id,
    )
    described = host_errors.explain(failure.value)
    if described is not None:
        data = {"incident": incident_id, "reason": described.fault.value, "hint": described.hint}
        return RpcError(INTERNAL, described.message, data)
    return RpcError(
        INTERNAL,
        f"internal error, incident {incident_id}",
        {"incident": incident_id, "hint": f"search the log of the other end for {incident_id}"},
    )


def _failed(error: RpcError) -> Deferred[Any]:
    failed: Deferred[Any] = Deferred()
    failed.errback(Failure(error))
    return failed
