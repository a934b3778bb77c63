# SPDX-License-Identifier: Apache-2.0
"""TLS towards a hypervisor: TLS 1.2 or later, with a certificate that is verified before a byte is sent."""

from __future__ import annotations

import hashlib
import hmac
import re
import ssl

from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.web.certificate import in_memory
from systemvm.wire.console import TargetTls

_HASHES = {64: "sha256", 40: "sha1"}


def client_context(tls: TargetTls) -> ssl.SSLContext:
    """Return the settings of a connection; Python's client ciphers exclude anonymous and weak ones.

    Raises: ConsoleRefusedError when there is nothing to verify the certificate by.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if tls.certificate_pem:
        try:
            with in_memory(tls.certificate_pem) as certificate, in_memory(tls.private_key_pem) as key:
                context.load_cert_chain(certificate, key)
        except (ssl.SSLError, ValueError):
            raise _untrusted("the certificate that is to be presented to it is unusable") from None
    if tls.ca_pem:
        try:
            context.load_verify_locations(cadata=tls.ca_pem)
        except (ssl.SSLError, ValueError):
            raise _untrusted("the CA that is set for it is not a PEM certificate") from None
    elif tls.fingerprint:
        # check_fingerprint verifies it after the handshake
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        raise _untrusted("neither a CA nor a fingerprint is set for it")
    return context


def check_fingerprint(tls: TargetTls, certificate_der: bytes | None) -> None:
    """Compare the server's certificate with the fingerprint, if one is set.

    Raises: ConsoleRefusedError when they differ.
    """
    if not tls.fingerprint:
        return
    wanted = re.sub(r"[:\s]", "", tls.fingerprint).lower()
    algorithm = _HASHES.get(len(wanted))
    if algorithm is None:
        raise _untrusted("the fingerprint that is set for it is neither SHA-256 nor SHA-1")
    found = hashlib.new(algorithm, certificate_der or b"").hexdigest()
    if not hmac.compare_digest(found, wanted):
        raise _untrusted(f"its fingerprint is {found}")


def handshake_refusal(error: Exception) -> ConsoleRefusedError:
    """Return the refusal for an error of the TLS handshake."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error.verify_message)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError):
        detail = "connection closed during the TLS handshake"
        return ConsoleRefusedError(BrowserRefusal.SCREEN_UNREACHABLE, detail)
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
    return ConsoleRefusedError(BrowserRefusal.SCREEN_UNENCRYPTED, f"TLS failed: {reason}")


def _untrusted(why: str) -> ConsoleRefusedError:
    detail = f"certificate of the screen or serial port cannot be verified: {why}"
    return ConsoleRefusedError(BrowserRefusal.SCREEN_UNTRUSTED, detail)
