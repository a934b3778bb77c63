# SPDX-License-Identifier: Apache-2.0
"""What a failed connection of the probe means to the person who registered the URL."""

from __future__ import annotations

import errno
import os

from OpenSSL import SSL
from service_identity.exceptions import VerificationError
from twisted.internet import error as network
from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.web.client import ResponseFailed

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.route import SourceRoute
from systemvm.wire.source_url import SourceUrl
from systemvm.wire.transfer_failure import TransferFailure


def explain_failure(error: Exception, url: SourceUrl, route: SourceRoute) -> TransferError:
    """Return the error that a user sees for an exception of Twisted, pyOpenSSL or service_identity."""
    host = url.host if url.address is not None else f"{url.host} ({route.address})"
    where = f"{host} port {url.port}"
    if route.proxy is not None:
        where = f"{url.host} port {url.port} through proxy {route.proxy.authority}"
    cause = _root_cause(error)
    if isinstance(cause, TransferError):  # the proxy's
        return cause
    if isinstance(cause, network.ConnectionRefusedError):
        return TransferError(
            TransferFailure.CONNECTION_REFUSED,
            f"connection refused by {where}",
            "check the URL, and that the server runs",
        )
    if isinstance(cause, network.TimeoutError | network.TCPTimedOutError):
        return TransferError(
            TransferFailure.CONNECTION_FAILED, f"{where} does not answer", "check the URL and the network"
        )
    if isinstance(cause, DeferredTimeout | CancelledError):
        return TransferError(
            TransferFailure.STALLED, f"{where} did not answer the request in time", "retry the template later"
        )
    if isinstance(cause, VerificationError):
        return TransferError(
            TransferFailure.TLS_FAILED,
            f"certificate of {where} is for another name",
            "use a name that the certificate contains",
        )
    if isinstance(cause, SSL.Error):
        return _tls_failure(cause, where)
    if isinstance(cause, network.ConnectError):
        # its text can hold a whole Failure; the number has the system's own text
        number = cause.osError if isinstance(cause.osError, int) else errno.EHOSTUNREACH
        return TransferError(
            TransferFailure.CONNECTION_FAILED,
            f"{where} cannot be reached: {os.strerror(number)}",
            "check the URL, and the routes of the public network",
        )
    if isinstance(cause, network.ConnectionDone | network.ConnectionLost | network.ConnectionAborted):
        return TransferError(
            TransferFailure.CONNECTION_LOST,
            f"{where} closed the connection without an answer",
            "check that a web server runs there",
        )
    return TransferError(
        TransferFailure.HTTP_INVALID,
        f"response of {where} is not HTTP: {type(cause).__name__}",
        "check that a web server runs there",
    )


def _root_cause(error: BaseException) -> BaseException:
    while isinstance(error, ResponseFailed) and error.reasons:
        error = error.reasons[0].value
    return error


def _tls_failure(error: SSL.Error, where: str) -> TransferError:
    entries = error.args[0] if error.args and error.args[0] else ()
    reasons = "; ".join(str(entry[-1]) for entry in entries) or "closed"
    if "certificate verify failed" in reasons:
        return TransferError(
            TransferFailure.TLS_FAILED,
            f"certificate of {where} cannot be verified: expired, or issued by an untrusted CA",
            "add its CA to the zone as a source CA if it is your own",
        )
    return TransferError(
        TransferFailure.TLS_FAILED,
        f"TLS with {where} failed: {reasons[:200]}",
        "check the TLS configuration of the server",
    )
