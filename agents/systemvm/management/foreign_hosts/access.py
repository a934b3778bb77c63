# SPDX-License-Identifier: Apache-2.0
"""How the daemon reaches the API of a host that it does not drive, and one HTTPS exchange with it."""

from __future__ import annotations

import enum
import hashlib
import hmac
import http.client
import re
import ssl
from typing import Protocol
from urllib.parse import urlsplit

import msgspec
from attrs import field, frozen

from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.service.slowness import scaled_s
from systemvm.wire.console import TargetTls

DEADLINE_S = 10.0
MAX_ANSWER_BYTES = 1 << 20
_HASHES = {64: "sha256", 40: "sha1"}


class ForeignHostError(SystemVmError):
    """The host's API cannot be reached, refuses, or answers something else."""

    code = FailureCode.UNAVAILABLE


class ForeignHypervisor(enum.Enum):
    """CloudStack's names of hypervisors whose consoles are reached through their own API."""

    XENSERVER = "XenServer"
    VMWARE = "VMware"


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
        connection = http.client.HTTPSConnection(
            access.host, access.port, timeout=scaled_s(DEADLINE_S), context=_context(access.tls)
        )
        try:
            connection.connect()
            _check_fingerprint(access.tls, connection.sock)
            encoded = None if body is None else msgspec.json.encode(body)
            about = {"Content-Type": "application/json", "Accept": "application/json", **(headers or {})}
            connection.request(method, path, encoded, about)
            response = connection.getresponse()
            text = response.read(MAX_ANSWER_BYTES + 1)
            if len(text) > MAX_ANSWER_BYTES:
                raise ForeignHostError(f"answer of {access.host} is too long", "check its url")
            return ApiReply(response.status, msgspec.json.decode(text) if text else None)
        except ssl.SSLCertVerificationError as untrusted:
            raise ForeignHostError(
                f"certificate of {access.host} cannot be verified: {untrusted.verify_message}",
                "set its ca_file or fingerprint",
            ) from None
        except (OSError, http.client.HTTPException, msgspec.DecodeError, ValueError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise ForeignHostError(
                f"API of {access.host} does not answer: {why}", "check its url, and that it runs"
            ) from None
        finally:
            connection.close()

    return exchange


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
        )
