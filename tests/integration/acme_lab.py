# SPDX-License-Identifier: Apache-2.0
"""Pebble, Let's Encrypt's ACME server for tests of clients, and a DNS server that leads every name here."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme
from attrs import frozen

from free_ports import free_ports
from integration.cpvm_lab.wire import TIMEOUT_S
from systemvm.service.slowness import scaled_s


@frozen
class Pebble:
    """A running server."""

    directory_url: str
    ca_file: Path
    management: str

    def root_pem(self) -> str:
        """Return the root that it signs with; it is another one at every start."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        with urllib.request.urlopen(
            f"{self.management}/roots/0", timeout=TIMEOUT_S, context=context
        ) as answer:
            return str(answer.read().decode())


@contextmanager
def pebble(
    directory: Path, tls_port: int, external_accounts: dict[str, str] | None = None
) -> Iterator[Pebble]:
    """Run a server that checks the challenge tls-alpn-01 at `tls_port` of loopback, whatever the name.

    With `external_accounts`, HMAC keys by id, it requires one of them.
    """
    ca, ports = trustme.CA(), free_ports(4)
    issued = ca.issue_cert("127.0.0.1")
    ca_file, config = directory / "ca.pem", directory / "pebble.json"
    ca.cert_pem.write_to_path(ca_file)
    issued.private_key_pem.write_to_path(directory / "key.pem")
    (directory / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    api, management, dns, control = ports
    config.write_text(
        json.dumps(
            {
                "pebble": {
                    "listenAddress": f"127.0.0.1:{api}",
                    "managementListenAddress": f"127.0.0.1:{management}",
                    "certificate": str(directory / "cert.pem"),
                    "privateKey": str(directory / "key.pem"),
                    "httpPort": 1,
                    "tlsPort": tls_port,
                    "ocspResponderURL": "",
                    "externalAccountBindingRequired": external_accounts is not None,
                    "externalAccountMACKeys": external_accounts or {},
                }
            }
        )
    )
    names = [
        "pebble-challtestsrv",
        "-defaultIPv4",
        "127.0.0.1",
        "-defaultIPv6",
        "",
        "-dns01",
        f"127.0.0.1:{dns}",
    ]
    names += ["-http01", "", "-https01", "", "-tlsalpn01", "", "-management", f"127.0.0.1:{control}"]
    server = ["pebble", "-strict", "-config", str(config), "-dnsserver", f"127.0.0.1:{dns}"]
    # each tenth nonce is refused, as a busy server does
    environment = os.environ | {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "10"}
    with (directory / "pebble.log").open("wb") as log:
        running = [
            subprocess.Popen(command, env=environment, stdout=log, stderr=log) for command in (names, server)
        ]
    found = Pebble(f"https://127.0.0.1:{api}/dir", ca_file, f"https://127.0.0.1:{management}")
    try:
        _wait_until_it_answers(found, dns, running)
        yield found
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(TIMEOUT_S)


def _look_up(dns_port: int) -> None:
    """Look a name up, as the server does to check a challenge.

    Raises: OSError while there is no answer.
    """
    question = b"\1\2\1\0\0\1\0\0\0\0\0\0\4name\4test\0\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.settimeout(5)
        plain.connect(("127.0.0.1", dns_port))
        plain.send(question)
        plain.recv(512)


def _wait_until_it_answers(server: Pebble, dns_port: int, running: list[subprocess.Popen[bytes]]) -> None:
    import time

    give_up_s = time.monotonic() + scaled_s(TIMEOUT_S)
    while True:
        try:
            server.root_pem()
            _look_up(dns_port)
            return
        except OSError:
            ended = [process.args for process in running if process.poll() is not None]
            if ended or time.monotonic() > give_up_s:
                raise AssertionError(f"the ACME server does not run: {ended}") from None
            time.sleep(0.05)
