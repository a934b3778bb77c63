# SPDX-License-Identifier: Apache-2.0
"""Which check of the control channel's TLS failed, in words that people and programs can use.

OpenSSL keeps the verdict on a chain in the connection (SSL_get_verify_result(3)); it is read from there after
the handshake failed, so that no Python callback is needed (see rpc/tls/context.py).
"""

from __future__ import annotations

import enum
from typing import Any

from attrs import frozen
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.tls.verify_result import verify_error_string, verify_result


class TlsCheck(enum.Enum):
    """A check that the other end did not pass; the values are stable."""

    NO_CERTIFICATE = "no-certificate"
    WRONG_CA = "wrong-ca"
    SELF_SIGNED = "self-signed"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    CHAIN = "bad-chain"
    USAGE = "wrong-usage"
    NAME = "wrong-name"
    REVOKED = "revoked"
    OFF_RECORD = "off-record"
    UNKNOWN = "unknown-vm"
    VERSION = "tls-version"
    PLAIN = "not-tls"
    TIMEOUT = "handshake-timeout"
    HUNG_UP = "hung-up"
    CROWDED = "too-many-connections"
    OUR_CERTIFICATE = "refuses-our-certificate"
    PROTOCOL = "tls-error"

    @property
    def hint(self) -> str:
        """What an operator does about it."""
        return _HINTS[self]


_FRESH = "systemvm system-vm reboot starts it with fresh credentials"
_STRANGER = "nothing of ours shows this: look at who uses that address"
_HINTS = {
    TlsCheck.NO_CERTIFICATE: _STRANGER,
    TlsCheck.WRONG_CA: f"it was started under another control CA; {_FRESH}",
    TlsCheck.SELF_SIGNED: _STRANGER,
    TlsCheck.EXPIRED: f"its certificate was not renewed in time, or the host's clock is ahead; {_FRESH}",
    TlsCheck.NOT_YET_VALID: "the host's clock was set back since it was signed: set it right (timedatectl)",
    TlsCheck.CHAIN: _FRESH,
    TlsCheck.USAGE: _STRANGER,
    TlsCheck.NAME: _STRANGER,
    TlsCheck.REVOKED: f"systemvm certificate list shows why; {_FRESH}",
    TlsCheck.OFF_RECORD: (
        f"if the database was restored from a backup, {_FRESH}; "
        "if not, somebody else has the control CA's key: systemvm ca rotate-control replaces it"
    ),
    TlsCheck.UNKNOWN: "the VM was destroyed, is not running, or belongs to another host",
    TlsCheck.VERSION: "the control channel speaks TLS 1.3 alone: is its image too old?",
    TlsCheck.PLAIN: _STRANGER,
    TlsCheck.TIMEOUT: "the guest may be overloaded, or something between drops packets",
    TlsCheck.CROWDED: "something at that address opens connections and says nothing: look at who uses it",
    TlsCheck.HUNG_UP: "it dials again by itself; systemvm logs shows what its agent says",
    TlsCheck.OUR_CERTIFICATE: (
        f"the guest's clock is wrong, or it was started under another control CA; {_FRESH}"
    ),
    TlsCheck.PROTOCOL: "systemvm logs shows what its agent says",
}


@frozen
class Refusal:
    """Why the other end did not come in: the check that failed, and a sentence."""

    check: TlsCheck
    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def hint(self) -> str:
        return self.check.hint

    @classmethod
    def of_application(cls, error: RpcError) -> Refusal:
        """The certificate is good, and the end that it names is not let in."""
        named = (check for check in TlsCheck if check.value == error.reason)
        return cls(next(named, TlsCheck.UNKNOWN), error.message)


#: X509_V_ERR_* of OpenSSL's x509_vfy.h.
_VERDICTS = {
    7: (TlsCheck.WRONG_CA, "its certificate is not of our control CA (the signature differs)"),
    9: (TlsCheck.NOT_YET_VALID, "its certificate is not yet valid"),
    10: (TlsCheck.EXPIRED, "its certificate has expired"),
    18: (TlsCheck.SELF_SIGNED, "its certificate is self-signed"),
    19: (TlsCheck.WRONG_CA, "its certificate is not of our control CA"),
    20: (TlsCheck.WRONG_CA, "its certificate is not of our control CA"),
    21: (TlsCheck.WRONG_CA, "its certificate is not of our control CA"),
    26: (TlsCheck.USAGE, "its certificate is not for this end of the channel (extended key usage)"),
}

#: Parts of OpenSSL's error names, lower case.
_ERRORS = (
    ("did not return a certificate", TlsCheck.NO_CERTIFICATE, "it showed no certificate"),
    ("unsupported protocol", TlsCheck.VERSION, "it speaks a TLS older than 1.3"),
    ("no protocols available", TlsCheck.VERSION, "it speaks a TLS older than 1.3"),
    ("alert protocol version", TlsCheck.VERSION, "it does not speak TLS 1.3"),
    ("wrong ssl version", TlsCheck.VERSION, "it speaks a TLS older than 1.3"),
    ("http request", TlsCheck.PLAIN, "it speaks HTTP and not TLS"),
    ("wrong version number", TlsCheck.PLAIN, "what it sends is not TLS"),
    ("packet length too long", TlsCheck.PLAIN, "what it sends is not TLS"),
    ("packet too long", TlsCheck.PLAIN, "what it sends is not TLS"),
    ("bad record type", TlsCheck.PLAIN, "what it sends is not TLS"),
    ("unexpected message", TlsCheck.PLAIN, "what it sends is no TLS handshake"),
    ("alert unknown ca", TlsCheck.OUR_CERTIFICATE, "it does not trust the CA of our certificate"),
    ("alert certificate expired", TlsCheck.OUR_CERTIFICATE, "it takes our certificate for expired"),
    ("alert bad certificate", TlsCheck.OUR_CERTIFICATE, "it takes our certificate for bad, or not yet valid"),
    ("alert certificate unknown", TlsCheck.OUR_CERTIFICATE, "it does not accept our certificate"),
    ("alert unsupported certificate", TlsCheck.OUR_CERTIFICATE, "it does not accept our certificate's use"),
    ("alert certificate required", TlsCheck.OUR_CERTIFICATE, "it wants a certificate that we did not show"),
    ("data length too long", TlsCheck.PLAIN, "what it sends is not TLS"),
    ("unexpected eof", TlsCheck.HUNG_UP, "it hung up during the TLS handshake"),
)


def of_lost_handshake(reason: Failure, connection: Any) -> Refusal:
    """Why a handshake ended; `connection` is the `OpenSSL.SSL.Connection`, or None when there is none."""
    error = reason.value
    words = _words(error)
    verdict = verify_result(connection)
    if "certificate verify failed" in words and verdict:
        if verdict in _VERDICTS:
            return Refusal(*_VERDICTS[verdict])
        return Refusal(TlsCheck.CHAIN, f"its certificate does not verify: {verify_error_string(verdict)}")
    for part, check, text in _ERRORS:
        if part in words:
            return Refusal(check, text)
    if isinstance(error, ConnectionDone | ConnectionLost):
        return Refusal(TlsCheck.HUNG_UP, "it hung up during the TLS handshake")
    return Refusal(TlsCheck.PROTOCOL, f"TLS: {words or type(error).__name__}")


def _words(error: BaseException | None) -> str:
    """The last of OpenSSL's errors, lower case; what any other exception says."""
    details = error.args[0] if error is not None and error.args else ""
    if isinstance(details, list):
        return " ".join(str(item[-1]) for item in details if isinstance(item, tuple)).lower()
    return str(details).lower()
