# SPDX-License-Identifier: Apache-2.0
"""Real QEMU as the VNC server: RFB and VeNCrypt, over TCP, UNIX sockets and WebSockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from cryptography import x509
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from integration.cpvm_lab.screen_tls import ANOTHER, ScreenCa
from integration.cpvm_lab.vnc_server import QemuVncServer, free_vnc_port
from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.cpvm.socket_waiter import SocketWaiter
from systemvm.cpvm.vnc_target import VncConnection, VncDialer
from systemvm.wire.console import ConsoleTarget, TargetTls, TargetTransport

pytestmark = pytest.mark.timeout(120)

PASSWORD = "s3cr3t8x"
CREDENTIALS = "tls-creds-x509,id=tls0,endpoint=server,verify-peer=off"


@contextmanager
def qemu(password: str | None, options: str = "", *objects: str) -> Iterator[QemuVncServer]:
    port = free_vnc_port()
    display = f"127.0.0.1:{port - 5900}{options}"
    server = QemuVncServer(password, port, display=display, objects=objects)
    try:
        yield server
    finally:
        server.close()


async def dial(target: ConsoleTarget, deadline_s: float = 30) -> VncConnection:
    return await VncDialer(reactor, target, deadline_s).dial()


async def refusal(target: ConsoleTarget, deadline_s: float = 30) -> BrowserRefusal:
    with pytest.raises(ConsoleRefusedError) as raised:
        await dial(target, deadline_s)
    assert PASSWORD not in str(raised.value)
    return raised.value.refusal


async def picture(connection: VncConnection) -> bytes:
    """Ask for the whole screen, uncompressed, and return its first rectangle."""
    stream, init = connection.stream, connection.server_init
    waiter = SocketWaiter(reactor, stream.fileno())
    size = init.width_px.to_bytes(2, "big") + init.height_px.to_bytes(2, "big")
    request = b"\x03\x00\x00\x00\x00\x00" + size
    assert stream.write(request) == len(request)
    got, buffer = connection.early, memoryview(bytearray(1 << 18))
    # by its own size: the firmware can have changed the screen's since the connection began
    while len(got) < 16 or len(got) < _end_of_rectangle(got, init.pixel_format[0]):
        try:
            count = stream.read_into(buffer)
        except BlockingIOError:
            await waiter.readable()
            continue
        assert count, "QEMU closed the connection"
        got += bytes(buffer[:count])
    assert got[0] == 0, "FramebufferUpdate"
    stream.close()
    return got[16 : _end_of_rectangle(got, init.pixel_format[0])]


def _end_of_rectangle(update: bytes, bits_per_pixel: int) -> int:
    width, height = int.from_bytes(update[8:10], "big"), int.from_bytes(update[10:12], "big")
    return 16 + width * height * bits_per_pixel // 8


def tcp(server: QemuVncServer, password: str | None = PASSWORD, **more: Any) -> ConsoleTarget:
    return ConsoleTarget("127.0.0.1", server.port, password, **more)


@pytest.mark.parametrize("password", [None, PASSWORD])
@pytest_twisted.ensureDeferred
async def test_x509_with_and_without_a_password(tmp_path: Path, password: str | None) -> None:
    ca = ScreenCa()
    directory = ca.directory(tmp_path / "tls")
    with qemu(password, ",tls-creds=tls0", f"{CREDENTIALS},dir={directory}") as server:
        connection = await dial(tcp(server, password, vencrypt=TargetTls(ca.pem)))
        assert any(await picture(connection))


@pytest_twisted.ensureDeferred
async def test_what_is_set_is_the_least_that_is_accepted(tmp_path: Path) -> None:
    ca = ScreenCa()
    x509_credentials = f"{CREDENTIALS},dir={ca.directory(tmp_path / 'tls')}"
    tls = TargetTls(ca.pem)
    with qemu(None) as open_server:
        assert await refusal(tcp(open_server)) is BrowserRefusal.PASSWORD_UNUSED
        assert await refusal(tcp(open_server, None, vencrypt=tls)) is BrowserRefusal.SCREEN_UNENCRYPTED
        assert await refusal(tcp(open_server, vencrypt=tls)) is BrowserRefusal.SCREEN_UNENCRYPTED
    with qemu(PASSWORD) as plain:
        assert await refusal(tcp(plain, vencrypt=tls)) is BrowserRefusal.SCREEN_UNENCRYPTED
        assert await refusal(tcp(plain, None)) is BrowserRefusal.PASSWORD_REFUSED
        assert await refusal(tcp(plain, "another!")) is BrowserRefusal.PASSWORD_REFUSED
    with qemu(None, ",tls-creds=tls0", x509_credentials) as encrypted:
        assert await refusal(tcp(encrypted, vencrypt=tls)) is BrowserRefusal.PASSWORD_UNUSED
    with qemu(PASSWORD, ",tls-creds=tls0", x509_credentials) as both:
        assert await refusal(tcp(both, None, vencrypt=tls)) is BrowserRefusal.PASSWORD_REFUSED
        assert await refusal(tcp(both, "another!", vencrypt=tls)) is BrowserRefusal.PASSWORD_REFUSED
        assert await refusal(tcp(both)) is BrowserRefusal.SCREEN_FAULTY
    with qemu(PASSWORD, ",tls-creds=tls0", "tls-creds-anon,id=tls0,endpoint=server") as anonymous:
        assert await refusal(tcp(anonymous, vencrypt=tls)) is BrowserRefusal.SCREEN_UNENCRYPTED


@pytest_twisted.ensureDeferred
async def test_the_certificate_is_checked_against_ca_and_name(tmp_path: Path) -> None:
    ca, other = ScreenCa(), ScreenCa()
    names = [ANOTHER, x509.DNSName("i-2-3-vm.screen.systemvm")]
    directory = ca.directory(tmp_path / "tls", *names)
    with qemu(PASSWORD, ",tls-creds=tls0", f"{CREDENTIALS},dir={directory}") as server:
        named = TargetTls(ca.pem, "i-2-3-vm.screen.systemvm")
        assert (await dial(tcp(server, vencrypt=named))).server_init.width_px
        for wrong in (
            TargetTls(ca.pem),  # for another address
            TargetTls(ca.pem, "i-2-4-vm.screen.systemvm"),
            TargetTls(ca.pem, "screen.systemvm"),
            TargetTls(other.pem, "i-2-3-vm.screen.systemvm"),
            TargetTls(),
            TargetTls("no PEM", "i-2-3-vm.screen.systemvm"),
        ):
            assert await refusal(tcp(server, vencrypt=wrong)) is BrowserRefusal.SCREEN_UNTRUSTED


@pytest_twisted.ensureDeferred
async def test_a_server_that_has_only_tls_1_0_is_refused(tmp_path: Path) -> None:
    ca = ScreenCa()
    directory = ca.directory(tmp_path / "tls")
    old = f"{CREDENTIALS},dir={directory},priority=NORMAL:-VERS-ALL:+VERS-TLS1.0"
    with qemu(PASSWORD, ",tls-creds=tls0", old) as server:
        target = tcp(server, vencrypt=TargetTls(ca.pem))
        assert await refusal(target) in (
            BrowserRefusal.SCREEN_UNENCRYPTED,
            BrowserRefusal.SCREEN_UNREACHABLE,  # it sends no alert
        )


@pytest_twisted.ensureDeferred
async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "vnc"
    server = QemuVncServer(PASSWORD, 0, display=f"unix:{path}")
    try:
        target = ConsoleTarget("", 0, PASSWORD, transport=TargetTransport.UNIX, path=str(path))
        assert any(await picture(await dial(target)))
        missing = ConsoleTarget("", 0, PASSWORD, transport=TargetTransport.UNIX, path=f"{path}.not")
        assert await refusal(missing) is BrowserRefusal.SCREEN_UNREACHABLE
        long = ConsoleTarget("", 0, PASSWORD, transport=TargetTransport.UNIX, path="/x" * 200)
        assert await refusal(long) is BrowserRefusal.SCREEN_UNREACHABLE
    finally:
        server.close()


@pytest.mark.parametrize("encrypted", [False, True])
@pytest_twisted.ensureDeferred
async def test_qemus_own_websocket(tmp_path: Path, encrypted: bool) -> None:
    ca = ScreenCa()
    directory = ca.directory(tmp_path / "tls")
    port = free_vnc_port()
    objects = [f"{CREDENTIALS},dir={directory}"] if encrypted else []
    options = f",websocket={port}" + (",tls-creds=tls0" if encrypted else "")
    with qemu(PASSWORD, options, *objects):
        target = ConsoleTarget(
            "127.0.0.1",
            port,
            PASSWORD,
            transport=TargetTransport.WEBSOCKET,
            transport_tls=TargetTls(ca.pem) if encrypted else None,
        )
        assert any(await picture(await dial(target)))
        if encrypted:
            wrong = ConsoleTarget(
                "127.0.0.1",
                port,
                PASSWORD,
                TargetTransport.WEBSOCKET,
                transport_tls=TargetTls(ScreenCa().pem),
            )
            assert await refusal(wrong) is BrowserRefusal.SCREEN_UNTRUSTED


@pytest_twisted.ensureDeferred
async def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    """The QMP command by which the daemon renews certificates."""
    ca, renewed = ScreenCa(), ScreenCa()
    directory = ca.directory(tmp_path / "tls")
    with qemu(PASSWORD, ",tls-creds=tls0", f"{CREDENTIALS},dir={directory}") as server:
        running = await dial(tcp(server, vencrypt=TargetTls(ca.pem)))
        renewed.directory(directory)
        reload = {"type": "vnc", "tls-certs": True}
        await cast(Any, deferToThread(lambda: server.command("display-reload", **reload)))
        assert await refusal(tcp(server, vencrypt=TargetTls(ca.pem))) is BrowserRefusal.SCREEN_UNTRUSTED
        assert (await dial(tcp(server, vencrypt=TargetTls(renewed.pem)))).server_init.width_px
        assert any(await picture(running)), "an open connection continues"
