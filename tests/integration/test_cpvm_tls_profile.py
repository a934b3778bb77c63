# SPDX-License-Identifier: Apache-2.0
"""The console's TLS by Mozilla's intermediate profile, as sslyze sees it, and session tickets."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from integration.cpvm_lab.console_process import TOP, ConsoleProcess
from integration.cpvm_lab.wire import TIMEOUT_S
from systemvm.management.pki.authority import CertificateAuthority
from systemvm.management.pki.public import PublicAuthority
from systemvm.service.slowness import scaled_s

pytestmark = pytest.mark.timeout(600)

SSLYZE = TOP / "build/sslyze/bin/python"
SCAN_S = 200.0


#: As a zone's: constrained to its addresses.
CONSTRAINTS = x509.NameConstraints([x509.IPAddress(ipaddress.ip_network("127.0.0.0/8"))], None)
AUTHORITY = PublicAuthority(CertificateAuthority.create("systemvm public CA", CONSTRAINTS))


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleProcess]:
    """A console with a certificate as the daemon issues it."""
    console = ConsoleProcess(tmp_path_factory.mktemp("console"), set_up=False)
    identity = AUTHORITY.issue("127.0.0.1")
    console.order(
        "setup",
        origin=console.origin,
        certificate_pem=identity.certificate_pem,
        private_key_pem=identity.private_key_pem,
    )
    yield console
    log = console.log()
    console.close()
    assert "Traceback" not in log, log


def test_sslyze_finds_the_console_compliant_with_mozillas_profile(
    console: ConsoleProcess, tmp_path: Path
) -> None:
    root = tmp_path / "root.pem"
    root.write_bytes(AUTHORITY.ca_pem)
    command = [str(SSLYZE), "-m", "sslyze", "--mozilla_config=intermediate", "--certinfo_ca_file", str(root)]
    address = f"127.0.0.1:{console.port}"
    done = subprocess.run(
        [*command, address], capture_output=True, text=True, timeout=scaled_s(SCAN_S), check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_ticket_resumes_a_session(console: ConsoleProcess, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cadata=AUTHORITY.ca_pem.decode())
    context.minimum_version = context.maximum_version = version

    def visit(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
        with (
            socket.create_connection(("127.0.0.1", console.port), timeout=TIMEOUT_S) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as tls,
        ):
            tls.sendall(f"HEAD /console HTTP/1.1\r\nHost: 127.0.0.1:{console.port}\r\n\r\n".encode())
            assert tls.recv(4096).startswith(b"HTTP/1.1 200")
            return tls.session, tls.session_reused

    ticket, is_resumed = visit(None)
    assert ticket is not None
    assert (ticket.has_ticket, is_resumed) == (True, False)
    assert visit(ticket)[1] is True
