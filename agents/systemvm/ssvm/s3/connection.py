# SPDX-License-Identifier: Apache-2.0
"""Requests to an S3 server over connections that fetch opens; each request can be sent again as a whole."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.limits import KIB, TransferLimits
from systemvm.ssvm.s3 import bounded_xml, failure
from systemvm.ssvm.s3.answers import S3Answer
from systemvm.ssvm.s3.endpoint import S3Endpoint
from systemvm.ssvm.s3.failure import S3Error
from systemvm.ssvm.s3.requests import S3Request
from systemvm.ssvm.s3.signing import Signer
from systemvm.ssvm.tls_client import reason_of, wrap_tls
from systemvm.wire.transfer_failure import TransferFailure

#: Returns another connection after this error, when it is time to try again; raises when it is not.
ReconnectStore = Callable[[TransferError], socket.socket]
_Result = TypeVar("_Result")
_SEND_BYTES = 256 * KIB
_RETRY_HINT = "check the S3 server and the network between: the transfer is repeated"


class S3Connection:
    """One bucket, one request at a time."""

    def __init__(
        self,
        connection: socket.socket,
        endpoint: S3Endpoint,
        signer: Signer,
        reconnect: ReconnectStore,
        limits: TransferLimits,
        ca_pem: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._fresh: socket.socket | None = connection
        self._client: http.client.HTTPConnection | None = None
        self._endpoint = endpoint
        self._signer = signer
        self._reconnect = reconnect
        self._limits = limits
        self._ca_pem = ca_pem
        self._now = now

    def exchange(self, request: S3Request, read: Callable[[S3Answer], _Result]) -> _Result:
        """Send a request and return what `read` makes of its answer; repeat it while that can help.

        Raises: TransferError, S3Error when the server refuses, or no further attempt is made.
        """
        while True:
            try:
                return read(self._attempt(request))
            except S3Error as error:
                if not error.is_transient:
                    raise
                failed: TransferError = error
            except TransferError as error:
                if not error.code.is_retryable:
                    raise
                failed = error
            self.close()
            self._fresh = self._reconnect(failed)

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
        if self._fresh is not None:
            self._fresh.close()
        self._client = self._fresh = None

    def _attempt(self, request: S3Request) -> S3Answer:
        try:
            answer = self._send(self._connected(), request)
            body = answer.read(bounded_xml.MAX_BYTES + 1)
        except TimeoutError:
            raise TransferError(
                TransferFailure.STALLED, f"{self._endpoint.host} did not answer in time", _RETRY_HINT
            ) from None
        except http.client.RemoteDisconnected:
            raise self._lost("it closed the connection") from None
        except http.client.IncompleteRead:
            raise self._lost("its answer is incomplete") from None
        except (http.client.HTTPException, ValueError) as error:
            raise failure.invalid("a request", f"it is not HTTP: {type(error).__name__}") from None
        except OSError as error:
            raise self._lost(reason_of(error)) from None
        if len(body) > bounded_xml.MAX_BYTES:
            raise failure.invalid(
                "a request", f"it has more than {bounded_xml.MAX_BYTES} bytes", answer.status
            )
        if answer.length:  # http.client returns a part when a size is given and the connection ends
            raise self._lost("its answer is incomplete")
        if answer.will_close:
            self.close()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return S3Answer(answer.status, headers, body)

    def _send(self, client: http.client.HTTPConnection, request: S3Request) -> http.client.HTTPResponse:
        client.putrequest(
            request.method, request.target(self._endpoint), skip_host=True, skip_accept_encoding=True
        )
        for name, value in request.signed_headers(self._endpoint, self._signer, self._now()).items():
            client.putheader(name, value)
        client.endheaders()
        try:
            with memoryview(request.body) as body:
                # one call for all would have the timeout of one for all
                for start in range(0, len(body), _SEND_BYTES):
                    client.send(body[start : start + _SEND_BYTES])
        except ConnectionError as error:
            # a server that refuses a part answers before it has received all of it
            try:
                return client.getresponse()
            except (OSError, http.client.HTTPException):
                raise error from None
        return client.getresponse()

    def _connected(self) -> http.client.HTTPConnection:
        if self._client is not None:
            return self._client
        if self._fresh is None:
            self._fresh = self._reconnect(self._lost("it closed the connection"))
        connection, self._fresh = self._fresh, None
        connection.settimeout(self._limits.stall_timeout_s)
        if self._endpoint.is_tls:
            hint = "add its CA to the image store, or use a certificate of a public CA"
            connection = wrap_tls(connection, self._endpoint.host, self._ca_pem, hint)
        self._client = http.client.HTTPConnection(self._endpoint.host)
        self._client.sock = connection
        self._client.auto_open = 0  # this process cannot open a connection
        return self._client

    def _lost(self, why: str) -> TransferError:
        return TransferError(
            TransferFailure.CONNECTION_LOST,
            f"connection to {self._endpoint.host} is lost: {why}",
            _RETRY_HINT,
        )
