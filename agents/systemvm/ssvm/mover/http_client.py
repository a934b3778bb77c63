# SPDX-License-Identifier: Apache-2.0
"""HTTP requests over a connected socket, with the errors that a user understands."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.mover_messages import MoverJob
from systemvm.ssvm.tls_client import reason_of
from systemvm.wire.transfer_failure import TransferFailure


def send_get(
    connection: socket.socket, job: MoverJob, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    """Send a GET for the job's target and return the response, whose body has not been read.

    Raises: TransferError when there is no response.
    """
    client = http.client.HTTPConnection(job.host)
    client.sock = connection
    client.auto_open = 0  # this process has one connection and cannot open another
    try:
        client.putrequest("GET", job.target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            client.putheader(name, value)
        client.endheaders()
        return client.getresponse()
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


def headers_of(answer: http.client.HTTPResponse) -> dict[str, list[str]]:
    """Return all values of each header; names are in lower case."""
    headers: dict[str, list[str]] = {}
    for name, value in answer.getheaders():
        headers.setdefault(name.lower(), []).append(value)
    return headers
