# SPDX-License-Identifier: Apache-2.0
"""Which check of the control channel's TLS failed, in words that people and programs can use.

OpenSSL keeps the verdict on a chain in the connection (SSL_get_verify_result(3)); it is read from there after
the handshake failed, so that no Python callback is needed (see rpc/tls/context.py).
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.tls.verify_result import verify_error_string, verify_result
from systemvm.wire.control_failure import ControlFailure

_FRESH = "systemvm system-vm reboot starts it with fresh credentials"
_STRANGER = "nothing of ours shows this: look at who uses that address"
_HINTS = {
    ControlFailure.NO_CERTIFICATE: _STRANGER,
    ControlFailure.WRONG_CA: f"it was started under another control CA; {_FRESH}",
    ControlFailure.SELF_SIGNED: _STRANGER,
    ControlFailure.EXPIRED: (
        f"its certificate was not renewed in time, or the host's clock is ahead; {_FRESH}"
    ),
    ControlFailure.NOT_YET_VALID: (
        "the host's clock was set back since it was signed: set it right (timedatectl)"
    ),
    ControlFailure.CHAIN: _FRESH,
    ControlFailure.USAGE: _STRANGER,
    ControlFailure.NAME: _STRANGER,
    ControlFailure.REVOKED: f"systemvm certificate list shows why; {_FRESH}",
    ControlFailure.OFF_RECORD: (
        f"if the database was restored from a backup, {_FRESH}; "
        "if not, somebody else has the control CA's key: systemvm ca rotate-control replaces it"
    ),
    ControlFailure.UNKNOWN: "the VM was destroyed, is not running, or belongs to another host",
    ControlFailure.VERSION: "the control channel speaks TLS 1.3 alone: is its image too old?",
    ControlFailure.PLAIN: _STRANGER,
    ControlFailure.TIMEOUT: "the guest may be overloaded, or something between drops packets",
    ControlFailure.CROWDED: (
        "something at that address opens connections and says nothing: look at who uses it"
    ),
    ControlFailure.HUNG_UP: "it dials again by itself; systemvm logs shows what its agent says",
    ControlFailure.OUR_CERTIFICATE: (
        f"the guest's clock is wrong, or it was started under another control CA; {_FRESH}"
    ),
    ControlFailure.PROTOCOL: "systemvm logs shows what its agent says",
}


def hint_for(check: ControlFailure) -> str:
    """What an operator does about a refused connection."""
    return _HINTS[check]


@frozen
class Refusal:
    """Why the other end did not come in: the check that failed, and a sentence."""

    check: ControlFailure
    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def hint(self) -> str:
        return hint_for(self.check)

    @classmethod
    def of_application(cls, error: RpcError) -> Refusal:
        """The certificate is good, and the end that it names is not let in."""
        return cls(ControlFailure.of(error.reason) or ControlFailure.UNKNOWN, error.message)


#: X509_V_ERR_* of OpenSSL's x509_vfy.h.
_VERDICTS = {
    7: (ControlFailure.WRONG_CA, "its certificate is not of our control CA (the signature differs)"),
    9: (ControlFailure.NOT_YET_VALID, "its certificate is not yet valid"),
    10: (ControlFailure.EXPIRED, "its certificate has expired"),
    18: (ControlFailure.SELF_SIGNED, "its certificate is self-signed"),
    19: (ControlFailure.WRONG_CA, "its certificate is not of our control CA"),
    20: (ControlFailure.WRONG_CA, "its certificate is not of our control CA"),
    21: (ControlFailure.WRONG_CA, "its certificate is not of our control CA"),
    26: (ControlFailure.USAGE, "its certificate is not for this end of the channel (extended key usage)"),
}

#: Parts of OpenSSL's error names, lower case.
_ERRORS = (
    ("did not return a certificate", ControlFailure.NO_CERTIFICATE, "it showed no certificate"),
    ("unsupported protocol", ControlFailure.VERSION, "it speaks a TLS older than 1.3"),
    ("no protocols available", ControlFailure.VERSION, "it speaks a TLS older than 1.3"),
    ("alert protocol version", ControlFailure.VERSION, "it does not speak TLS 1.3"),
    ("wrong ssl version", ControlFailure.VERSION, "it speaks a TLS older than 1.3"),
    ("http request", ControlFailure.PLAIN, "it speaks HTTP and not TLS"),
    ("wrong version number", ControlFailure.PLAIN, "what it sends is not TLS"),
    ("packet length too long", ControlFailure.PLAIN, "what it sends is not TLS"),
    ("packet too long", ControlFailure.PLAIN, "what it sends is not TLS"),
    ("bad record type", ControlFailure.PLAIN, "what it sends is not TLS"),
    ("unexpected message", ControlFailure.PLAIN, "what it sends is no TLS handshake"),
    ("alert unknown ca", ControlFailure.OUR_CERTIFICATE, "it does not trust the CA of our certificate"),
    ("alert certificate expired", ControlFailure.OUR_CERTIFICATE, "it takes our certificate for expired"),
    (
        "alert bad certificate",
        ControlFailure.OUR_CERTIFICATE,
        "it takes our certificate for bad, or not yet valid",
    ),
    ("alert certificate unknown", ControlFailure.OUR_CERTIFICATE, "it does not accept our certificate"),
    (
        "alert unsupported certificate",
        ControlFailure.OUR_CERTIFICATE,
        "it does not accept our certificate's use",
    ),
    (
        "alert certificate required",
        ControlFailure.OUR_CERTIFICATE,
        "it wants a certificate that we did not show",
    ),
    ("data length too long", ControlFailure.PLAIN, "what it sends is not TLS"),
    ("unexpected eof", ControlFailure.HUNG_UP, "it hung up during the TLS handshake"),
)


def of_lost_handshake(reason: Failure, connection: Any) -> Refusal:
    """Why a handshake ended; `connection` is the `OpenSSL.SSL.Connection`, or None when there is none."""
    error = reason.value
    words = _words(error)
    verdict = verify_result(connection)
    if "certificate verify failed" in words and verdict:
        if verdict in _VERDICTS:
            return Refusal(*_VERDICTS[verdict])
        return Refusal(
            ControlFailure.CHAIN, f"its certificate does not verify: {verify_error_string(verdict)}"
        )
    for part, check, text in _ERRORS:
        if part in words:
            return Refusal(check, text)
    if isinstance(error, ConnectionDone | ConnectionLost):
        return Refusal(ControlFailure.HUNG_UP, "it hung up during the TLS handshake")
    return Refusal(ControlFailure.PROTOCOL, f"TLS: {words or type(error).__name__}")


def _words(error: BaseException | None) -> str:
    """The last of OpenSSL's errors, lower case; what any other exception says."""
    details = error.args[0] if error is not None and error.args else ""
    if isinstance(details, list):
        return " ".join(str(item[-1]) for item in details if isinstance(item, tuple)).lower()
    return str(details).lower()
