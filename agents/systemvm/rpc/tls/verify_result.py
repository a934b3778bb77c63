# SPDX-License-Identifier: Apache-2.0
"""OpenSSL's verdict on a certificate chain, for which pyOpenSSL has no call (SSL_get_verify_result(3)).

It is read through private names of pyOpenSSL. A version that has moved them gives no verdict: a connection is
refused as before, and its reason is less exact. `tests/unit/test_private_names.py` says which name moved.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL

X509_V_OK = 0


def verify_result(connection: Any) -> int:
    """Return the X509_V_ERR_* of an `OpenSSL.SSL.Connection`; X509_V_OK when there is none."""
    library, pointer = getattr(SSL, "_lib", None), getattr(connection, "_ssl", None)
    if library is None or pointer is None:
        return X509_V_OK
    return int(library.SSL_get_verify_result(pointer))


def verify_error_string(verdict: int) -> str:
    """Return OpenSSL's text for an X509_V_ERR_*."""
    library, interface = getattr(SSL, "_lib", None), getattr(SSL, "_ffi", None)
    if library is None or interface is None:
        return f"X509_V_ERR {verdict}"
    return bytes(interface.string(library.X509_verify_cert_error_string(verdict))).decode("ascii", "replace")
