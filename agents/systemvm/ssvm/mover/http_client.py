# SPDX-License-Identifier: Apache-2.0
"""HTTP requests over a connected socket, with the errors that a user understands."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Self

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.mover_messages import MoverJob
from systemvm.ssvm.tls_client import reason_of
from systemvm.wire.transfer_failure import TransferFailure

#: `103 Early Hints` and what else precedes the response.
MAX_INTERIM_RESPONSES = 8


def send_get(
    connection: socket.socket, job: MoverJob, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    """Send a GET for the job's target and return the response, whose body has not been read.

    Raises: TransferError when there is no response, or its head takes as long as a body that is too slow.
    """
    limit_s = max(job.limits.headers_timeout_s, job.limits.slow_window_s)
    with _TimeLimit(connection, limit_s) as limit:
        try:
            answer = _exchange(connection, job, headers)
        except TransferError:
            if not limit.is_over:
                raise
        else:
            if not limit.is_over:  # otherwise http.client took the end of the connection for that of the head
                return answer
    raise TransferError(
        TransferFailure.STALLED,
        f"source is too slow: {job.host} did not send its headers in {limit_s:g} s",
        "retry the template later: the server or the network is too slow",
    )


class _TimeLimit:
    """Ends the connection after this time; a time-out of the socket begins again with each byte."""

    def __init__(self, connection: socket.socket, limit_s: float) -> None:
        self.is_over = False
        self._connection = connection
        self._timer = threading.Timer(limit_s, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        self.is_over = True
        with suppress(OSError):  # the server has ended it
            self._connection.shutdown(socket.SHUT_RDWR)


def _exchange(
    connection: socket.socket, job: MoverJob, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    client = http.client.HTTPConnection(job.host)
    client.sock = connection
    client.auto_open = 0  # this process has one connection and cannot open another
    try:
        client.putrequest("GET", job.target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            client.putheader(name, value)
        client.endheaders()
        return _final(client.getresponse())
    except http.client.RemoteDisconnected:
        raise TransferError(
            TransferFailure.CONNECTION_LOST,
            "the server closed the connection without an answer",
            "retry the template",
        ) from None
    except http.client.HTTPException as error:
        raise TransferError(
            TransferFailure.HTTP_INVALID,
            f"response is not HTTP: {type(error).__name__}",
            "fix the server or the proxy in front of it",
        ) from None
    except TimeoutError:
        raise TransferError(
            TransferFailure.STALLED, f"{job.host} did not answer in time", "retry the template later"
        ) from None
    except OSError as error:
        raise TransferError(
            TransferFailure.CONNECTION_LOST, f"connection lost: {reason_of(error)}", "retry the template"
        ) from None


def _final(answer: http.client.HTTPResponse) -> http.client.HTTPResponse:
    """Return the final response, behind the interim ones that http.client returns, too (RFC 9110, 15.2)."""
    for _ in range(MAX_INTERIM_RESPONSES):
        if answer.status // 100 != 1 or answer.status == HTTPStatus.SWITCHING_PROTOCOLS:
            return answer
        answer.headers = None  # type: ignore[assignment]  # or the next head would not be read
        answer.length = None
        answer.begin()
    raise http.client.HTTPException


def headers_of(answer: http.client.HTTPResponse) -> dict[str, list[str]]:
    """Return all values of each header; names are in lower case."""
    headers: dict[str, list[str]] = {}
    for name, value in answer.getheaders():
        headers.setdefault(name.lower(), []).append(value)
    return headers
