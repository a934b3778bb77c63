# SPDX-License-Identifier: Apache-2.0
"""A console's certificate and name change while consoles are open: no session ends, new handshakes differ."""

from __future__ import annotations

import ssl

import pytest
from cryptography import x509

from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.fixtures import console, screen
from integration.cpvm_lab.vnc_server import FakeVncServer
from integration.cpvm_lab.wire import Connection, open_console
from public_pki import DOMAIN, INTERMEDIATE, ROOT, Issued, server

pytestmark = pytest.mark.timeout(120)

__all__ = ["console", "screen"]  # fixtures

HOST = f"127-0-0-1.{DOMAIN}"


def present(console: ConsoleProcess, origin: str, leaf: Issued, key: Issued | None = None) -> None:
    console.order(
        "setup",
        origin=origin,
        certificate_pem=leaf.pem + INTERMEDIATE.pem,
        private_key_pem=(key or leaf).key_pem,
    )


def shown(console: ConsoleProcess) -> x509.Certificate:
    """Return the certificate of a new handshake, without checking it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = Connection(console, context)
    der = connection.tls.getpeercert(binary_form=True)
    connection.close()
    assert der is not None
    return x509.load_der_x509_certificate(der)


def opened(console: ConsoleProcess, screen: FakeVncServer) -> Connection:
    token, _ = console.issue(screen.port)
    connection = open_console(console, token)
    connection.greet()
    return connection


def is_alive(connection: Connection, text: bytes) -> bool:
    connection.send_frame(2, text)
    return connection.data(len(text)) == text


def test_a_certificate_is_swapped_while_consoles_are_open(
    console: ConsoleProcess, screen: FakeVncServer
) -> None:
    connections = [opened(console, screen) for _ in range(3)]
    first = shown(console)
    named = f"https://{HOST}:{console.port}"
    for number in range(3):
        leaf = server()
        present(console, named, leaf)
        assert shown(console) == leaf.certificate != first
        for connection in connections:
            assert is_alive(connection, b"still here %d" % number)
    assert {tuple(connection.notices) for connection in connections} == {("moved",)}, "once each"
    trusting = ssl.create_default_context(cadata=ROOT.pem)
    trusting.check_hostname = False  # the lab's client asks for an address
    host = f"{HOST}:{console.port}"
    assert Connection(console, trusting).request("GET", "/console", host=host).status == 200
    assert Connection(console, trusting).request("GET", "/console").status in (400, 403, 421), "its old name"
    stranger = Connection(console, trusting)
    fields = {"Origin": console.origin, "Accept": "application/json"}
    assert stranger.request("POST", "/console", b"cmd=auth&token=x", host=host, **fields).status == 403
    console.set_up()
    for connection in connections:
        assert is_alive(connection, b"and back")
        connection.close()


def test_the_last_good_certificate_stays_when_a_new_one_fails(
    console: ConsoleProcess, screen: FakeVncServer
) -> None:
    connection = opened(console, screen)
    before = shown(console)
    named = f"https://{HOST}:{console.port}"
    for origin, leaf, key in (
        (named, server(), server()),  # another's key
        (named, server(f"other.{DOMAIN}"), None),  # another's name
        ("https://*.example.test", server(), None),
    ):
        with pytest.raises(RuntimeError, match=r"private key|not valid for|must be"):
            present(console, origin, leaf, key)
        assert shown(console) == before
        assert is_alive(connection, b"unharmed")
    assert Connection(console).request("GET", "/console").status == 200
    connection.close()
