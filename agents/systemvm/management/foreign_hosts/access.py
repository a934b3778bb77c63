# SPDX-License-Identifier: Apache-2.0
"""How the daemon reaches the API of a host that it does not drive, and one HTTPS exchange with it."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import re
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from threading import Timer
from typing import Protocol
from urllib.parse import urlsplit

import msgspec
from attrs import field, frozen

from systemvm.management.foreign_hosts.errors import ApiFault, ForeignHostError
from systemvm.management.foreign_hosts.hypervisors import ForeignHypervisor
from systemvm.service.slowness import scaled_s
from systemvm.wire.console import TargetTls

#: For each part of an exchange, and for the whole: a host that sends a byte now and then holds no thread.
DEADLINE_S = 10.0
TOTAL_S = 60.0
#: A record of XAPI's has 6 kB: about 5,000 VMs.
MAX_ANSWER_BYTES = 32 << 20
_HASHES = {64: "sha256", 40: "sha1"}


@frozen
class HostAccess:
    """The API of one host, or of the vCenter or pool master before it."""

    hypervisor: ForeignHypervisor
    url: str  # https://HOST[:PORT]
    username: str
    password: str = field(repr=False)
    tls: TargetTls  # verifies the API's certificate, and those of consoles

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 443


@frozen
class ApiReply:
    status: int
    body: object  # decoded JSON


class ApiExchange(Protocol):
    """Sends one request and waits for the answer; it blocks.

    Raises: ForeignHostError when there is none.
    """

    def __call__(
        self, method: str, path: str, body: object | None = None, headers: dict[str, str] | None = None, /
    ) -> ApiReply: ...


def exchange_with(access: HostAccess) -> ApiExchange:
    """Return what sends requests to a host, each on a connection of its own, for use in a thread."""

    def exchange(
        method: str, path: str, body: object | None = None, headers: dict[str, str] | None = None
    ) -> ApiReply:
        connection = _connected(access.host, access.port, _context(access.tls))
        timer = Timer(scaled_s(TOTAL_S), _cut, (connection.sock,))
        timer.start()
        try:
            _check_fingerprint(access.tls, connection.sock)
            encoded = None if body is None else msgspec.json.encode(body)
            about = {"Content-Type": "application/json", "Accept": "application/json", **(headers or {})}
            connection.request(method, path, encoded, about)
            return _read(access.host, connection.getresponse())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _described(access.host, access.port, error) from None
        finally:
            timer.cancel()
            connection.close()

    return exchange


def read_fingerprint(host: str, port: int) -> str:
    """Return the SHA-256 fingerprint of a host's certificate, which nothing has verified; it blocks.

    Nothing is sent to the host but a TLS handshake.

    Raises: ForeignHostError when it cannot be reached.
    """
    connection = _connected(host, port, _context(TargetTls()))
    try:
        der = connection.sock.getpeercert(binary_form=True) or b""
    finally:
        connection.close()
    return colons(hashlib.sha256(der).hexdigest())


def colons(digest: str) -> str:
    """Return a fingerprint as hosts show it: AA:BB:CC.

    >>> colons("aabbcc")
    'AA:BB:CC'
    """
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2)).upper()


def plain_fingerprint(text: str) -> str:
    """Return the digits of a fingerprint in lower case.

    Raises: ValueError when it is neither SHA-256 nor SHA-1.
    """
    digits = re.sub(r"[:\s]", "", text).lower()
    if len(digits) not in _HASHES or not re.fullmatch(r"[0-9a-f]+", digits):
        raise ValueError("the fingerprint of a certificate, SHA-256 or SHA-1 in hexadecimal digits")
    return digits


def _connected(host: str, port: int, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    connection = http.client.HTTPSConnection(host, port, timeout=scaled_s(DEADLINE_S), context=context)
    try:
        connection.connect()
    except (OSError, ValueError) as error:
        connection.close()
        raise _described(host, port, error) from None
    return connection


def _read(host: str, response: http.client.HTTPResponse) -> ApiReply:
    if 300 <= response.status < 400:
        raise ForeignHostError(
            f"API of {host} leads to another place, with status {response.status}",
            "give the address of the API itself as url",
            ApiFault.NOT_AN_API,
        )
    text = response.read(MAX_ANSWER_BYTES + 1)
    if len(text) > MAX_ANSWER_BYTES:
        raise ForeignHostError(
            f"answer of {host} is too long: the maximum is {MAX_ANSWER_BYTES >> 20} MiB",
            "check its url",
            ApiFault.TOO_LONG,
        )
    try:
        return ApiReply(response.status, msgspec.json.decode(text) if text else None)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise ForeignHostError(
            f"{host} did not answer with JSON, but with status {response.status}",
            "check its url: it must be that of a XenServer, XCP-ng or vCenter",
            ApiFault.NOT_AN_API,
        ) from None


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


_Description = tuple[str, str, ApiFault]


def _described(host: str, port: int, error: Exception) -> ForeignHostError:
    """Return what an error means to an operator; it quotes nothing that the host has sent."""
    for kind, describe in _DESCRIPTIONS:
        if isinstance(error, kind):
            return ForeignHostError(*describe(f"{host}:{port}", error))
    why = getattr(error, "strerror", None) or "the connection was lost"
    return ForeignHostError(
        f"{host}:{port} cannot be reached: {why}", "check its url, and that it runs", ApiFault.UNREACHABLE
    )


def _untrusted(where: str, error: Exception) -> _Description:
    why = getattr(error, "verify_message", "")
    return (
        f"certificate of {where} cannot be verified: {why}",
        "correct cacertificate, or give the fingerprint of its certificate",
        ApiFault.UNTRUSTED,
    )


def _without_tls(where: str, error: Exception) -> _Description:
    return f"TLS with {where} failed", "it must offer TLS 1.2 or 1.3 at this port", ApiFault.NO_TLS


def _unresolved(where: str, error: Exception) -> _Description:
    return (
        f"name of {where} cannot be resolved",
        "add it to the name servers, or use its address",
        ApiFault.UNRESOLVED,
    )


def _late(where: str, error: Exception) -> _Description:
    return (
        f"{where} does not answer within {scaled_s(DEADLINE_S):g} s",
        "check that it runs, and that no firewall is between",
        ApiFault.UNREACHABLE,
    )


def _no_http(where: str, error: Exception) -> _Description:
    return f"{where} did not answer with HTTP", "check its url", ApiFault.NOT_AN_API


#: The first that fits, from special to general.
_DESCRIPTIONS: tuple[tuple[type[Exception], Callable[[str, Exception], _Description]], ...] = (
    (ssl.SSLCertVerificationError, _untrusted),
    (ssl.SSLError, _without_tls),
    (socket.gaierror, _unresolved),
    (UnicodeError, _unresolved),  # a host name that IDNA does not allow
    (TimeoutError, _late),
    (http.client.RemoteDisconnected, _no_http),
    (http.client.HTTPException, _no_http),
    (ValueError, _no_http),
)


def _context(tls: TargetTls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.ca_pem:
        context.load_verify_locations(cadata=tls.ca_pem)
    else:  # the fingerprint verifies it, before a password is sent
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _check_fingerprint(tls: TargetTls, connection: ssl.SSLSocket) -> None:
    if not tls.fingerprint and tls.ca_pem:
        return
    wanted = re.sub(r"[:\s]", "", tls.fingerprint).lower()
    algorithm = _HASHES.get(len(wanted))
    found = hashlib.new(algorithm, connection.getpeercert(binary_form=True) or b"") if algorithm else None
    if found is None or not hmac.compare_digest(found.hexdigest(), wanted):
        raise ForeignHostError(
            "certificate of the host does not have the fingerprint that is set",
            "compare it on the host itself, then correct fingerprint",
            ApiFault.UNTRUSTED,
        )
