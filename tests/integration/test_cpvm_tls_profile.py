# SPDX-License-Identifier: Apache-2.0
"""The console's TLS by Mozilla's intermediate profile, as sslyze sees it, and session tickets."""

from __future__ import annotations

import datetime
import socket
import ssl
import subprocess
from collections.abc import Iterator

import pytest

from integration.cpvm_lab.console_process import TOP, ConsoleProcess
from integration.cpvm_lab.wire import TIMEOUT_S
from systemvm.service.slowness import scaled_s

pytestmark = pytest.mark.timeout(600)

SSLYZE = TOP / "build/sslyze/bin/python"
SCAN_S = 200.0


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleProcess]:
    console = ConsoleProcess(tmp_path_factory.mktemp("console"), set_up=False)
    # Mozilla's profile allows certificates of a year at most.
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    issued = console.ca.issue_cert("127.0.0.1", not_before=now - day, not_after=now + 90 * day)
    console.order(
        "setup",
        origin=console.origin,
        certificate_pem=b"".join(blob.bytes() for blob in issued.cert_chain_pems).decode(),
        private_key_pem=issued.private_key_pem.bytes().decode(),
    )
    yield console
    log = console.log()
    console.close()
    assert "Traceback" not in log, log


def test_sslyze_finds_the_console_compliant_with_mozillas_profile(console: ConsoleProcess) -> None:
    command = [str(SSLYZE), "-m", "sslyze", "--mozilla_config=intermediate", f"127.0.0.1:{console.port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=scaled_s(SCAN_S), check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_ticket_resumes_a_session(console: ConsoleProcess, version: ssl.TLSVersion) -> None:
    context = console.client_context()
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
