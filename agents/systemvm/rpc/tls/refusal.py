# SPDX-License-Identifier: Apache-2.0
"""Which check of the control channel's TLS failed, as a code and a text.

OpenSSL stores its verdict on a chain in the connection (SSL_get_verify_result(3)); it is read from there
after a failed handshake, so that no Python callback is needed (see rpc/tls/context.py).
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.tls.verify_result import verify_error_string, verify_result
from systemvm.wire.control_failure import ControlFailure

_FRESH = 'run "systemvm system-vm reboot", which issues new credentials'
_STRANGER = "find out what uses that address: no system VM sends this"
_HINTS = {
    ControlFailure.NO_CERTIFICATE: _STRANGER,
    ControlFailure.WRONG_CA: f"{_FRESH}: it was started under another control CA",
    ControlFailure.SELF_SIGNED: _STRANGER,
    ControlFailure.EXPIRED: (f"check the clock of the host, which can be ahead, and {_FRESH}"),
    ControlFailure.NOT_YET_VALID: (
        "correct the clock of the host (timedatectl): it was set back after the certificate was signed"
    ),
    ControlFailure.CHAIN: _FRESH,
    ControlFailure.USAGE: _STRANGER,
    ControlFailure.NAME: _STRANGER,
    ControlFailure.REVOKED: f'run "systemvm certificate list" for the reason, and {_FRESH}',
    ControlFailure.OFF_RECORD: (
        f"if the database was restored from a backup, {_FRESH}; otherwise the key of the control CA "
        'was stolen: run "systemvm ca rotate-control"'
    ),
    ControlFailure.UNKNOWN: "check the VM: it was destroyed, is not running, or belongs to another host",
    ControlFailure.VERSION: "check the age of its image: the control channel requires TLS 1.3",
    ControlFailure.PLAIN: _STRANGER,
    ControlFailure.TIMEOUT: "check the load of the guest, and for lost packets on the way",
    ControlFailure.CROWDED: ("find out what uses that address: it opens connections and sends nothing"),
    ControlFailure.HUNG_UP: 'run "systemvm logs" for the log of its agent, which redials by itself',
    ControlFailure.OUR_CERTIFICATE: (
        f"check the clock of the guest, and {_FRESH}: it can have another control CA"
    ),
    ControlFailure.PROTOCOL: 'run "systemvm logs" for the log of its agent',
}


def hint_for(check: ControlFailure) -> str:
    """Return what an operator does about a refused connection."""
    return _HINTS[check]


@frozen
class Refusal:
    """Why the other end was refused: the failed check, and a text."""

    check: ControlFailure
    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def hint(self) -> str:
        return hint_for(self.check)

    @classmethod
    def of_application(cls, error: RpcError) -> Refusal:
        """Return the refusal of an end whose certificate is valid."""
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
    ("did not return a certificate", ControlFailure.NO_CERTIFICATE, "it sent no certificate"),
    ("unsupported protocol", ControlFailure.VERSION, "it uses a TLS version older than 1.3"),
    ("no protocols available", ControlFailure.VERSION, "it uses a TLS version older than 1.3"),
    ("alert protocol version", ControlFailure.VERSION, "it does not support TLS 1.3"),
    ("wrong ssl version", ControlFailure.VERSION, "it uses a TLS version older than 1.3"),
    ("http request", ControlFailure.PLAIN, "it sends HTTP instead of TLS"),
    ("wrong version number", ControlFailure.PLAIN, "it sends data that is not TLS"),
    ("packet length too long", ControlFailure.PLAIN, "it sends data that is not TLS"),
    ("packet too long", ControlFailure.PLAIN, "it sends data that is not TLS"),
    ("bad record type", ControlFailure.PLAIN, "it sends data that is not TLS"),
    ("unexpected message", ControlFailure.PLAIN, "it sends data that is not a TLS handshake"),
    ("alert unknown ca", ControlFailure.OUR_CERTIFICATE, "it does not trust the CA of our certificate"),
    ("alert certificate expired", ControlFailure.OUR_CERTIFICATE, "it rejects our certificate as expired"),
    (
        "alert bad certificate",
        ControlFailure.OUR_CERTIFICATE,
        "it rejects our certificate as bad, or not yet valid",
    ),
    ("alert certificate unknown", ControlFailure.OUR_CERTIFICATE, "it rejects our certificate"),
    (
        "alert unsupported certificate",
        ControlFailure.OUR_CERTIFICATE,
        "it rejects the usage of our certificate",
    ),
    (
        "alert certificate required",
        ControlFailure.OUR_CERTIFICATE,
        "it requires a certificate, and we sent none",
    ),
    ("data length too long", ControlFailure.PLAIN, "it sends data that is not TLS"),
    ("unexpected eof", ControlFailure.HUNG_UP, "it closed the connection during the TLS handshake"),
)


def of_lost_handshake(reason: Failure, connection: Any) -> Refusal:
    """Return why a handshake failed; `connection` is the `OpenSSL.SSL.Connection`, if there is one."""
    error = reason.value
    reason_text = _error_text(error)
    verdict = verify_result(connection)
    if "certificate verify failed" in reason_text and verdict:
        if verdict in _VERDICTS:
            return Refusal(*_VERDICTS[verdict])
        return Refusal(
            ControlFailure.CHAIN, f"its certificate cannot be verified: {verify_error_string(verdict)}"
        )
    for part, check, text in _ERRORS:
        if part in reason_text:
            return Refusal(check, text)
    if isinstance(error, ConnectionDone | ConnectionLost):
        return Refusal(ControlFailure.HUNG_UP, "it closed the connection during the TLS handshake")
    return Refusal(ControlFailure.PROTOCOL, f"TLS: {reason_text or type(error).__name__}")


def _error_text(error: BaseException | None) -> str:
    """Return OpenSSL's errors in lower case, or the text of another exception."""
    details = error.args[0] if error is not None and error.args else ""
    if isinstance(details, list):
        return " ".join(str(item[-1]) for item in details if isinstance(item, tuple)).lower()
    return str(details).lower()
