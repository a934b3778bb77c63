# SPDX-License-Identifier: Apache-2.0
"""Where the roots of the system are found."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
import trustme
from OpenSSL import crypto

from systemvm.ssvm import tls_client
from systemvm.ssvm.failure import TransferError

HOST = "source.example"


def shake_hands(authority: trustme.CA) -> None:
    """Connect by TLS to a server that `authority` has certified, trusting the system's roots only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    ours, theirs = socket.socketpair()
    ours.settimeout(30)

    def serve() -> None:
        try:
            context.wrap_socket(theirs, server_side=True).close()
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        tls_client.wrap_tls(ours, HOST, None).close()
    finally:
        thread.join()


def test_a_root_of_the_system_is_found_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    pem = authority.cert_pem.bytes()
    number: Any = crypto.load_certificate(crypto.FILETYPE_PEM, pem).subject_name_hash()
    (tmp_path / f"{number:08x}.0").write_bytes(pem)
    monkeypatch.setattr(tls_client, "root_directory", lambda: str(tmp_path))
    tls_client._context.cache_clear()
    try:
        shake_hands(authority)
        with pytest.raises(TransferError):
            shake_hands(stranger)
    finally:
        tls_client._context.cache_clear()


def test_a_directory_without_hashes_is_not_used(tmp_path: Path) -> None:
    paths = ssl.get_default_verify_paths()
    assert tls_client.root_directory(paths._replace(capath=str(tmp_path))) is None
    assert tls_client.root_directory(paths._replace(capath="")) is None
    (tmp_path / "0a0b0c0d.0").touch()
    assert tls_client.root_directory(paths._replace(capath=str(tmp_path))) == str(tmp_path)
