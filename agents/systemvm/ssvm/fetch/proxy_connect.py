# SPDX-License-Identifier: Apache-2.0
"""CONNECT to a server through an HTTP proxy (RFC 9110, 9.3.6): the bytes of it, without I/O.

The proxy receives its own login and nothing of the request for the file: that goes through the tunnel.
"""

from __future__ import annotations

import re

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.http_request import USER_AGENT, basic_authorization
from systemvm.ssvm.limits import KIB
from systemvm.wire.source_access import SourceProxy
from systemvm.wire.source_url import SourceUrl
from systemvm.wire.transfer_failure import TransferFailure

MAX_HEAD_BYTES = 16 * KIB
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: [^\r\n]*)?\r?\n")
_END = re.compile(rb"\r?\n\r?\n")
#: The proxy says that it could not reach the server, at the moment.
_UNREACHABLE = frozenset({502, 503, 504})


def connect_request(url: SourceUrl, proxy: SourceProxy) -> bytes:
    """Return the request for a tunnel to the server of `url`."""
    target = f"[{url.host}]:{url.port}" if ":" in url.host else f"{url.host}:{url.port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", f"User-Agent: {USER_AGENT}"]
    if proxy.credentials is not None:
        lines.append(f"Proxy-Authorization: {basic_authorization(proxy.credentials)}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


class ConnectResponse:
    """The proxy's response; nothing can follow it, because the server speaks only when it is asked."""

    def __init__(self, url: SourceUrl, proxy: SourceProxy) -> None:
        self._url = url
        self._where = f"proxy {proxy.authority}"
        self._head = b""

    def feed(self, data: bytes) -> bool:
        """Take bytes of the response; return whether the tunnel is open.

        Raises: TransferError when the proxy refuses it, or does not speak HTTP.
        """
        self._head += data
        end = _END.search(self._head)
        if end is None:
            if len(self._head) > MAX_HEAD_BYTES:
                raise self._invalid("its response is too long")
            return False
        status_line = _STATUS_LINE.match(self._head)
        if status_line is None:
            raise self._invalid("its response is not HTTP")
        status = int(status_line[1])
        if not 200 <= status < 300:
            raise self._refused(status)
        if end.end() != len(self._head):
            raise self._invalid("it sends data before the server is asked")
        return True

    def ended(self) -> TransferError:
        """Return the error for a connection that ended before the response."""
        return TransferError(
            TransferFailure.CONNECTION_LOST,
            f"{self._where} closed the connection without an answer",
            "check that an HTTP proxy runs there",
        )

    def _refused(self, status: int) -> TransferError:
        if status == 407:
            return TransferError(
                TransferFailure.PROXY_REFUSED,
                f"{self._where} requires another user name or password (407)",
                "correct secstorage_proxy of the zone",
            )
        if status in _UNREACHABLE:
            return TransferError(
                TransferFailure.HTTP_UNAVAILABLE,
                f"{self._where} cannot reach {self._url.host}: {status}",
                "check the URL, and the network of the proxy",
            )
        return TransferError(
            TransferFailure.PROXY_REFUSED,
            f"{self._where} refuses a tunnel to {self._url.host} port {self._url.port}: {status}",
            "permit CONNECT to this server and port in the proxy",
        )

    def _invalid(self, why: str) -> TransferError:
        return TransferError(
            TransferFailure.PROXY_REFUSED,
            f"{self._where} is not an HTTP proxy: {why}",
            "correct secstorage_proxy of the zone",
        )
