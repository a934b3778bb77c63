# SPDX-License-Identifier: Apache-2.0
"""Browsers reach consoles at the advertised port through the CPVM's real rules and its real listener.

The console runs outside of the namespace, with a listening socket from inside, as systemd hands it one.
"""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from integration.cpvm_lab.console_process import ConsoleProcess
from public_pki import DOMAIN, server
from systemvm.guest import firewall, network
from systemvm.lab import namespaces
from systemvm.service.slowness import scaled_s
from systemvm.web.certificate import ACME_ALPN

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

RULES = Path(__file__).resolve().parents[2] / "appliances/cpvm/nftables.conf"
PUBLIC, MANAGEMENT = "203.0.113.101", "10.11.0.101"
BOOT = {
    "type": "consoleproxy", "name": "v-2-VM", "eth0ip": "169.254.10.3", "eth0mask": "255.255.0.0",
    "eth1ip": MANAGEMENT, "eth1mask": "255.255.255.0", "mgmtcidr": "10.11.0.0/24", "eth2ip": PUBLIC,
    "eth2mask": "255.255.255.0", "host": "169.254.0.1", "public.network.device": "eth2",
    "private.network.device": "eth1",
}  # fmt: skip


@frozen
class Place:
    """A CPVM's network, and the world on the other ends of its cables."""

    guest: str
    world: str
    console: ConsoleProcess

    def load(self, **more: str) -> None:
        """Load the rules as preinit does."""
        boot = BOOT | more
        text = firewall.script(RULES, network.make_plan(boot), boot)
        namespaces.inside(
            self.guest,
            lambda: subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True, timeout=120),
        )

    def connect(self, address: str, port: int, timeout_s: float = 0.0) -> socket.socket:
        where = (address, port)
        return namespaces.inside(
            self.world, lambda: socket.create_connection(where, timeout_s or scaled_s(15.0))
        )

    def drops(self, address: str, port: int) -> bool:
        """Return whether nothing answers, not even a refusal."""
        try:
            self.connect(address, port, 0.5).close()
        except TimeoutError:
            return True
        return False

    def get(self, port: int) -> bytes:
        """Return the first line that a browser gets at a port, from the certificate of the console."""
        with self.console.client_context().wrap_socket(
            self.connect(PUBLIC, port), server_hostname="127.0.0.1"
        ) as tls:
            tls.sendall(f"GET /console HTTP/1.1\r\nHost: 127.0.0.1:{self.console.port}\r\n\r\n".encode())
            return tls.recv(65536).partition(b"\r\n")[0]

    def shown_to_acme(self, port: int, name: str) -> Any:
        """Return the certificate that an ACME server is shown for a name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols([ACME_ALPN])
        with context.wrap_socket(self.connect(PUBLIC, port), server_hostname=name) as tls:
            assert tls.selected_alpn_protocol() == ACME_ALPN
            return tls.getpeercert(binary_form=True)


def ip(*command: str) -> None:
    subprocess.run(["ip", *command], check=True, timeout=120)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    guest, world = f"svfg{os.getpid()}", f"svfw{os.getpid()}"
    try:
        for name in (guest, world):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        for device, own, theirs in (
            ("eth1", MANAGEMENT, "10.11.0.7"),
            ("eth2", PUBLIC, "203.0.113.7"),
        ):
            ip("-n", guest, "link", "add", device, "type", "veth", "peer", "name", device, "netns", world)
            for name, address in ((guest, own), (world, theirs)):
                ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
                ip("-n", name, "link", "set", device, "up")
        listening = namespaces.inside(guest, lambda: socket.create_server(("", firewall.CONSOLE_PORT)))
        console = ConsoleProcess(tmp_path_factory.mktemp("console"), listening=listening)
        yield Place(guest, world, console)
        console.close()
    finally:
        for name in (guest, world):
            subprocess.run(["ip", "netns", "del", name], check=False, timeout=120)


def test_the_advertised_port_leads_to_the_listener_on_the_public_network_only(place: Place) -> None:
    place.load()
    assert b" 200 " in place.get(8443)
    assert place.drops(PUBLIC, 443), "nothing is redirected without vncport="
    place.load(vncport="443")
    for port in (443, 8443):
        assert b" 200 " in place.get(port), port
    for address, port in ((PUBLIC, 80), (PUBLIC, 444), (MANAGEMENT, 443), (MANAGEMENT, 8443)):
        assert place.drops(address, port), (address, port)
    place.load(vncport="8444")
    assert b" 200 " in place.get(8444)
    assert place.drops(PUBLIC, 443), "the port of before is closed"


def test_an_acme_server_reaches_the_challenge_at_port_443(place: Place) -> None:
    place.load(vncport="443")
    proof = server(DOMAIN)
    pending = {"host": DOMAIN, "certificate_pem": proof.pem, "private_key_pem": proof.key_pem}
    place.console.order("challenge", challenges=[pending])
    assert ssl.DER_cert_to_PEM_cert(place.shown_to_acme(443, DOMAIN)) == proof.pem
    assert b" 200 " in place.get(443), "browsers are answered as always"
    place.console.order("challenge", challenges=[])
    with pytest.raises((ssl.SSLError, OSError, AssertionError)):
        place.shown_to_acme(443, DOMAIN)
