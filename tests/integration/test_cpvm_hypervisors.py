# SPDX-License-Identifier: Apache-2.0
"""Consoles of every kind of target, from a browser's socket: VeNCrypt, XAPI's peer and ESXi's peer.

QEMU is the real peer in test_cpvm_targets.py; XAPI and ESXi are protocol peers (hypervisor_peers.py).
"""

from __future__ import annotations

import hashlib
import os
import random
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.fixtures import console
from integration.cpvm_lab.flood import FloodReader, flood
from integration.cpvm_lab.hypervisor_peers import EsxiPeer, Greeting, XapiPeer, echo, vencrypt_greeting
from integration.cpvm_lab.screen_tls import ScreenCa, self_signed, server_context
from integration.cpvm_lab.vnc_server import SERVER_INIT, FakeVncServer
from integration.cpvm_lab.wire import TIMEOUT_S, Connection, open_console

pytestmark = pytest.mark.timeout(120)

MIB = 1 << 20

__all__ = ["console"]  # a fixture


@frozen
class Kind:
    """A kind of target: its server's greeting, and the members of ConsoleTarget that reach it."""

    name: str
    greet: Greeting
    target: dict[str, Any]


def kinds(folder: Path) -> dict[str, Kind]:
    ca = ScreenCa()
    context = server_context(folder, *ca.issue())
    own_certificate, own_key = self_signed()
    esxi_context = server_context(folder, own_certificate, own_key)
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(own_certificate.decode())).hexdigest()
    esxi = EsxiPeer(esxi_context)
    esxi.reusable = True
    tls = {"ca_pem": ca.pem}
    xapi = {
        "transport": "http_connect",
        "path": XapiPeer.PATH,
        "session_id": XapiPeer.SESSION_ID,
        "transport_tls": tls,
    }
    ticket = {"transport": "websocket", "path": EsxiPeer.PATH, "transport_tls": {"fingerprint": fingerprint}}
    return {
        "vencrypt": Kind("vencrypt", vencrypt_greeting(context), {"vencrypt": tls}),
        "xapi": Kind("xapi", XapiPeer(context).greet, xapi),
        "esxi": Kind("esxi", esxi.greet, ticket),
    }


@pytest.fixture(params=["vencrypt", "xapi", "esxi"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    return kinds(tmp_path)[request.param]


@contextmanager
def server_of(serve: Any) -> Iterator[FakeVncServer]:
    server = FakeVncServer(serve)
    try:
        yield server
    finally:
        server.close()


def test_a_console_is_offered_none_and_shows_the_screen(console: ConsoleProcess, kind: Kind) -> None:
    with server_of(echo(kind.greet)) as server:
        token, _ = console.issue(server.port, **kind.target)
        connection = open_console(console, token)
        assert connection.greet()[:20] == SERVER_INIT[:20]  # greet asserts that only None is offered
        for size in (1, 125, 70_000, 300_000):
            payload = os.urandom(size)
            for at in range(0, size, 60_000):
                connection.send_frame(2, payload[at : at + 60_000])
            assert connection.data(size) == payload
        connection.close()


def test_stalled_and_flooded_screens_behind_tls_mix_no_byte(console: ConsoleProcess, kind: Kind) -> None:
    """What the relay does with a browser that stalls holds for each kind of target."""
    stalled_screen, flowing_screen = flood(1, 96, kind.greet), flood(9, 300, kind.greet)
    stalled = open_console(console, console.issue(stalled_screen.port, **kind.target)[0], receive_buffer=8192)
    stalled.greet()
    flowing = open_console(console, console.issue(flowing_screen.port, **kind.target)[0])
    flowing.greet()
    flowing_reader, stalled_reader = FloodReader(flowing, 9), FloodReader(stalled, 1)
    flowing_reader.read_to(150)
    for number in range(20):
        stalled.send_frame(9, b"%03d" % number)
    with ThreadPoolExecutor() as pool:
        rest = pool.submit(flowing_reader.read_to, 300)
        stalled_reader.read_to(96)
        rest.result()
    for screen in (stalled_screen, flowing_screen):
        screen.close()
    for connection in (stalled, flowing):
        connection.close()


def test_a_browser_that_never_reads_costs_one_frame(console: ConsoleProcess, kind: Kind) -> None:
    def serve(connection: Any) -> None:
        screen = kind.greet(connection) or connection
        block = os.urandom(MIB)
        for _ in range(64):
            screen.sendall(block)

    with server_of(serve) as server:
        before_kib = console.order("rss")
        connections: list[Connection] = []
        for _ in range(6):
            token, _ = console.issue(server.port, **kind.target)
            connections.append(open_console(console, token, receive_buffer=8192))
            connections[-1].greet()
        time.sleep(2)  # the time in which an unbounded relay would take all 384 MiB
        grown_kib = console.order("rss") - before_kib
        for connection in connections:
            connection.close()
    assert grown_kib < 6 * 700, grown_kib


def test_all_that_a_browser_sends_reaches_a_slow_screen(console: ConsoleProcess, kind: Kind) -> None:
    total = 6 * MIB
    digest, done = hashlib.sha256(), threading.Event()

    def serve(connection: Any) -> None:
        screen = kind.greet(connection) or connection
        time.sleep(1)  # until all buffers in between are full
        left = total
        while left and (data := screen.recv(min(left, 30_000))):
            digest.update(data)
            left -= len(data)
        done.set()
        screen.recv(1)

    with server_of(serve) as server:
        connection = open_console(console, console.issue(server.port, **kind.target)[0])
        connection.greet()
        data = random.Random(5).randbytes(total)
        for at in range(0, total, 65536):
            connection.send_frame(2, data[at : at + 65536])
        assert done.wait(TIMEOUT_S)
        assert digest.hexdigest() == hashlib.sha256(data).hexdigest()
        connection.close()


def closing(console: ConsoleProcess, greet: Greeting, **target: Any) -> int:
    with server_of(echo(greet)) as server:
        connection = open_console(console, console.issue(server.port, **target)[0])
        code, _ = connection.closing()
        connection.close()
        return code


def test_an_ended_session_of_xapi_is_refused(console: ConsoleProcess, tmp_path: Path) -> None:
    xapi = kinds(tmp_path)["xapi"]
    assert closing(console, xapi.greet, **{**xapi.target, "session_id": "OpaqueRef:NULL"}) == 4511
    assert closing(console, xapi.greet, **{**xapi.target, "path": "/console?uuid=other"}) == 4513
    assert closing(console, xapi.greet, **{**xapi.target, "session_id": "a\r\nX: y"}) == 4513
    other = {**xapi.target, "transport_tls": {"ca_pem": ScreenCa().pem}}
    assert closing(console, xapi.greet, **other) == 4515
    assert closing(console, xapi.greet, **xapi.target, password="12345678") == 4512


def test_a_ticket_of_esxi_opens_once(console: ConsoleProcess, tmp_path: Path) -> None:
    certificate, key = self_signed()
    peer = EsxiPeer(server_context(tmp_path, certificate, key))
    der = ssl.PEM_cert_to_DER_cert(certificate.decode())
    tls = {"fingerprint": hashlib.sha1(der, usedforsecurity=False).hexdigest()}
    ticket: dict[str, Any] = {"transport": "websocket", "path": EsxiPeer.PATH}
    with server_of(echo(peer.greet)) as server:
        connection = open_console(console, console.issue(server.port, **ticket, transport_tls=tls)[0])
        connection.greet()
        again = open_console(console, console.issue(server.port, **ticket, transport_tls=tls)[0])
        assert again.closing()[0] == 4511
        connection.close()
    peer.seen.clear()
    wrong = {"fingerprint": "0" * 64}
    assert closing(console, peer.greet, **ticket, transport_tls=wrong) == 4515
    assert peer.seen == [], "the ticket is not sent to a host of another fingerprint"


def test_no_secret_of_a_target_reaches_the_log(console: ConsoleProcess, tmp_path: Path) -> None:
    for kind in kinds(tmp_path).values():
        with server_of(echo(kind.greet)) as server:
            connection = open_console(console, console.issue(server.port, "p4ssw0rd", **kind.target)[0])
            connection.closing()
            connection.close()
    log = console.log()
    for secret in ("p4ssw0rd", XapiPeer.SESSION_ID, EsxiPeer.TICKET):
        assert secret not in log
