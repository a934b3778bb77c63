# SPDX-License-Identifier: Apache-2.0
"""Whom the probe trusts: the system's authorities and, besides them, the zone's source CA."""

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
    """Options that check the chain and that the certificate is for `host`, a name or an address."""
    if not source_ca_pem:
        return ssl.optionsForClientTLS(host)
    trusted = [*_system_authorities(), *_read(source_ca_pem)]
    return ssl.optionsForClientTLS(host, trustRoot=ssl.trustRootFromCertificates(trusted))


@lru_cache(maxsize=1)
def _system_authorities() -> tuple[ssl.Certificate, ...]:
    bundle = standard_ssl.get_default_verify_paths().cafile
    path = Path(bundle) if bundle else _BUNDLE
    return _read(path.read_text()) if path.exists() else ()


@lru_cache(maxsize=8)
def _read(pem: str) -> tuple[ssl.Certificate, ...]:
    try:
        return tuple(ssl.Certificate.loadPEM(block) for block in _BLOCK.findall(pem))
    except Exception as error:  # pyOpenSSL has an exception of its own for each thing that can be wrong
        raise TransferError(
            TransferFailure.REQUEST_INVALID, f"the source CA cannot be read: {error}"
        ) from None
