# SPDX-License-Identifier: Apache-2.0
"""The API of a host by HTTPS: its certificate is verified before a password is sent."""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

import pytest
import trustme

from foreign_host_peers import PASSWORD, USERNAME, XEN_VM, VcenterPeer, XapiPeer, served
from systemvm.management.foreign_hosts import access
from systemvm.management.foreign_hosts.access import HostAccess, exchange_with, read_fingerprint
from systemvm.management.foreign_hosts.errors import ApiFault, ForeignHostError
from systemvm.management.foreign_hosts.hypervisors import ForeignHypervisor
from systemvm.management.foreign_hosts.vcenter import VcenterHost
from systemvm.management.foreign_hosts.xapi import XapiHost
from systemvm.wire.console import TargetTls

pytestmark = pytest.mark.timeout(60)

CA = trustme.CA()
ISSUED = CA.issue_cert("127.0.0.1")
CA_PEM = CA.cert_pem.bytes().decode()


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ISSUED.configure_cert(context)
    return context


def fingerprint() -> str:
    der = ssl.PEM_cert_to_DER_cert(ISSUED.cert_chain_pems[0].bytes().decode())
    text = hashlib.sha256(der).hexdigest().upper()
    return ":".join(text[at : at + 2] for at in range(0, len(text), 2))


def host(kind: ForeignHypervisor, port: int, tls: TargetTls) -> HostAccess:
    return HostAccess(kind, f"https://127.0.0.1:{port}", USERNAME, PASSWORD, tls)


def test_both_apis_are_reached_by_https() -> None:
    xapi, vcenter = XapiPeer(), VcenterPeer()
    with served(xapi, server_context()) as port:
        of_xen = host(ForeignHypervisor.XENSERVER, port, TargetTls(ca_pem=CA_PEM))
        assert XapiHost(of_xen, exchange_with(of_xen)).target(XEN_VM).session_id == xapi.sessions[0]
    with served(vcenter, server_context()) as port:
        of_vmware = host(ForeignHypervisor.VMWARE, port, TargetTls(fingerprint=fingerprint()))
        consoles = VcenterHost(of_vmware, exchange_with(of_vmware))
        assert consoles.target("vm-42").path == "/ticket/cst-VCT-1"
        assert consoles.target("vm-42").path == "/ticket/cst-VCT-2"
    with pytest.raises(ForeignHostError) as gone:
        consoles.target("vm-42")
    assert gone.value.fault is ApiFault.UNREACHABLE


def test_a_fingerprint_is_shown_before_anything_is_sent() -> None:
    peer = XapiPeer()
    with served(peer, server_context()) as port:
        assert read_fingerprint("127.0.0.1", port) == fingerprint()
    assert peer.calls == []


@pytest.mark.parametrize(
    "tls",
    [
        TargetTls(ca_pem=trustme.CA().cert_pem.bytes().decode()),
        TargetTls(fingerprint=fingerprint()[:-2] + ("00" if fingerprint()[-2:] != "00" else "01")),
        TargetTls(fingerprint="AB:CD"),
        TargetTls(),
        TargetTls(ca_pem=CA_PEM, fingerprint="00" * 32),
    ],
)
def test_an_unverified_host_gets_no_password(tls: TargetTls) -> None:
    peer = XapiPeer()
    with served(peer, server_context()) as port:
        wrong = host(ForeignHypervisor.XENSERVER, port, tls)
        with pytest.raises(ForeignHostError) as refused:
            XapiHost(wrong, exchange_with(wrong)).target(XEN_VM)
    assert refused.value.fault is ApiFault.UNTRUSTED
    assert peer.calls == []


def test_an_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MAX_ANSWER_BYTES", 10)
    peer = XapiPeer()
    with served(peer, server_context()) as port:
        of_xen = host(ForeignHypervisor.XENSERVER, port, TargetTls(ca_pem=CA_PEM))
        with pytest.raises(ForeignHostError, match="too long"):
            XapiHost(of_xen, exchange_with(of_xen)).target(XEN_VM)


@contextmanager
def answering(data: bytes, context: ssl.SSLContext | None) -> Iterator[int]:
    """Answer each connection with these bytes, by TLS if there is a context; then close it."""
    listening = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with suppress(OSError), connection:
                peer = connection if context is None else context.wrap_socket(connection, server_side=True)
                with peer:
                    peer.recv(65536)
                    peer.sendall(data)

    thread = Thread(target=run)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def body(text: bytes, head: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return head + b"\r\nContent-Length: %d\r\n\r\n" % len(text) + text


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", ApiFault.NOT_AN_API),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ApiFault.NOT_AN_API),
        (b"HTTP/1.1 secret OK\r\n\r\n", ApiFault.NOT_AN_API),
        (b"HTTP/1.1 200 OK\r\n" + b"X-secret: a\r\n" * 200 + b"\r\n", ApiFault.NOT_AN_API),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", ApiFault.NOT_AN_API),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsecret", ApiFault.NOT_AN_API),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nsecret\r\n", ApiFault.NOT_AN_API),
        (body(b"", b"HTTP/1.1 302 Found\r\nLocation: https://secret/"), ApiFault.NOT_AN_API),
        (body(b"<html>secret</html>", b"HTTP/1.1 200 OK\r\nContent-Type: text/html"), ApiFault.NOT_AN_API),
        (body(b"[" * 200_000), ApiFault.NOT_AN_API),
        (body(b"\xff\xfe\x00"), ApiFault.NOT_AN_API),
        (body(b'{"result": 3}'), ApiFault.NOT_AN_API),
    ],
)
def test_what_is_no_answer_by_https_is_a_typed_error(data: bytes, fault: ApiFault) -> None:
    with answering(data, server_context()) as port:
        of_xen = host(ForeignHypervisor.XENSERVER, port, TargetTls(ca_pem=CA_PEM))
        with pytest.raises(ForeignHostError) as found:
            XapiHost(of_xen, exchange_with(of_xen)).inventory()
    assert found.value.fault is fault
    for text in ("secret", PASSWORD):
        assert text not in f"{found.value!r} {found.value} {found.value.hint}"
    assert found.value.__cause__ is None


def test_a_port_without_tls_and_one_with_an_old_one_are_named() -> None:
    old = server_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    for context in (None, old):
        with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n", context) as port:
            of_xen = host(ForeignHypervisor.XENSERVER, port, TargetTls(ca_pem=CA_PEM))
            with pytest.raises(ForeignHostError) as found:
                XapiHost(of_xen, exchange_with(of_xen)).inventory()
        assert found.value.fault is ApiFault.NO_TLS


def test_a_host_that_sends_a_byte_now_and_then_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "TOTAL_S", 0.5)
    monkeypatch.setattr(access, "scaled_s", lambda seconds: seconds)
    ended = Event()
    listening = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        connection, _ = listening.accept()
        with suppress(OSError), server_context().wrap_socket(connection, server_side=True) as peer:
            while not ended.wait(0.02):
                peer.sendall(b"H")
                peer.sendall(b"TTP/1.1 100 Continue\r\n\r\n")

    thread = Thread(target=drip)
    thread.start()
    of_xen = host(ForeignHypervisor.XENSERVER, listening.getsockname()[1], TargetTls(ca_pem=CA_PEM))
    with pytest.raises(ForeignHostError):
        XapiHost(of_xen, exchange_with(of_xen)).inventory()
    ended.set()
    thread.join()
    listening.close()
