# SPDX-License-Identifier: Apache-2.0
"""The CAs that the probe trusts: those of the system and the source CA of the zone."""

from __future__ import annotations

import re
import ssl as standard_ssl
from functools import lru_cache
from pathlib import Path
from typing import Any

from twisted.internet import ssl

from systemvm.ssvm.failure import TransferError
from systemvm.wire.transfer_failure import TransferFailure

_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def client_options(host: str, source_ca_pem: str | None) -> Any:
    """Return options that verify the chain, and that the certificate is for `host`, a name or an address."""
    if not source_ca_pem:
        return ssl.optionsForClientTLS(host)
    trusted = [*_system_cas(), *_read(source_ca_pem)]
    return ssl.optionsForClientTLS(host, trustRoot=ssl.trustRootFromCertificates(trusted))


@lru_cache(maxsize=1)
def _system_cas() -> tuple[ssl.Certificate, ...]:
    bundle = standard_ssl.get_default_verify_paths().cafile
    path = Path(bundle) if bundle else _BUNDLE
    return _read(path.read_text()) if path.exists() else ()


@lru_cache(maxsize=8)
def _read(pem: str) -> tuple[ssl.Certificate, ...]:
    try:
        return tuple(ssl.Certificate.loadPEM(block) for block in _BLOCK.findall(pem))
    except Exception as error:  # pyOpenSSL has a separate exception for each kind of error
        raise TransferError(TransferFailure.REQUEST_INVALID, f"source CA is not valid PEM: {error}") from None
