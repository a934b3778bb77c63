# SPDX-License-Identifier: Apache-2.0
"""TLS over a connected socket, with the failures that a user can mend by their reasons."""

from __future__ import annotations

import socket
import ssl
from functools import lru_cache
from pathlib import Path

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.tls_connection import ENDS, TlsConnection
from systemvm.wire.transfer_failure import TransferFailure

_TRUST_HINT = "add its CA to the zone as a source CA if it is your own"


@lru_cache(maxsize=4)
def _context(ca_pem: str | None) -> ssl.SSLContext:
    """Return the settings of a client."""
    context = ssl.create_default_context(capath=root_directory())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 requires of private CAs what browsers, curl and the probe do not
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if ca_pem:
        context.load_verify_locations(cadata=ca_pem)
    return context


def root_directory(paths: ssl.DefaultVerifyPaths | None = None) -> str | None:
    """Return the directory of the system's roots if they can be found there by their names' hashes.

    OpenSSL then reads the one that it needs; all in one file would take 2 MiB in each mover. None when there
    is no such directory, and that file must do.
    """
    directory = (paths or ssl.get_default_verify_paths()).capath
    if directory and any(Path(directory).glob("*.0")):
        return directory
    return None


def wrap_tls(
    connection: socket.socket, host: str, ca_pem: str | None, trust_hint: str = _TRUST_HINT
) -> TlsConnection:
    """Return the connection after the handshake; `ca_pem` is trusted besides the system's roots.

    Raises: TransferError when the handshake fails.
    """
    try:
        return TlsConnection(connection, _context(ca_pem), host)
    except ssl.SSLCertVerificationError as error:
        raise TransferError(
            TransferFailure.TLS_FAILED,
            f"certificate of {host} cannot be verified: {error.verify_message}",
            trust_hint,
        ) from None
    except TimeoutError:
        raise TransferError(
            TransferFailure.STALLED,
            f"{host} did not finish the TLS handshake in time",
            "retry the template later",
        ) from None
    except (*ENDS, ConnectionError) as error:
        raise TransferError(
            TransferFailure.CONNECTION_LOST,
            f"{host} closed the connection during the TLS handshake: {reason_of(error)}",
            "check the TLS configuration of the server",
        ) from None
    except (OSError, ValueError) as error:
        raise TransferError(
            TransferFailure.TLS_FAILED,
            f"TLS with {host} failed: {reason_of(error)}",
            "check the TLS configuration of the server",
        ) from None


def reason_of(error: OSError | ValueError) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
