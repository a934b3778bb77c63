# SPDX-License-Identifier: Apache-2.0
"""DNS queries of `systemvm check` to a real server, to none, and to one that forges replies."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from free_ports import free_ports
from systemvm.guest.probes import DnsAnswer, ask_dns
from systemvm.service.slowness import scaled_s

pytestmark = pytest.mark.timeout(60)
LOOPBACK = "127.0.0.1"


@pytest.fixture(scope="module")
def dnsmasq() -> Iterator[int]:
    """Run a server that resolves one name, denies a second, has no IPv4 address of a third."""
    [port] = free_ports(1)
    process = subprocess.Popen(
        ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
         "--pid-file=", f"--listen-address={LOOPBACK}", "--bind-interfaces", f"--port={port}", "--user=root",
         "--host-record=known.example.test,203.0.113.5", "--local=/denied.example.test/six.example.test/",
         "--host-record=six.example.test,2001:db8::5"],
    )  # fmt: skip
    try:
        deadline_s = time.monotonic() + scaled_s(60.0)
        while True:
            try:
                ask_dns(LOOPBACK, "known.example.test", port=port)
                break
            except OSError:
                assert time.monotonic() < deadline_s, "dnsmasq does not answer"
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(120)


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("known.example.test", ""),
        ("nobody.denied.example.test", "NXDOMAIN"),
        ("six.example.test", "no IPv4 address"),
        ("elsewhere.example.org", "REFUSED"),
    ],
)
def test_replies_of_a_real_server(dnsmasq: int, name: str, failure: str) -> None:
    answer = ask_dns(LOOPBACK, name, port=dnsmasq)
    assert failure in answer.failure
    assert bool(answer.failure) == bool(failure)


def test_a_missing_name_server_is_an_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((LOOPBACK, 0))
        taken.connect((LOOPBACK, 1))  # nobody else gets the port, and it takes packets of that peer only
        with pytest.raises(ConnectionRefusedError):
            ask_dns(LOOPBACK, "known.example.test", port=int(taken.getsockname()[1]))


def test_a_reply_to_another_query_is_ignored() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((LOOPBACK, 0))

        def answer() -> None:
            for reply_id in (b"", None):  # first with another id, then with the right one
                query, client = server.recvfrom(512)
                wrong = bytes([query[0] ^ 0xFF, query[1]])
                server.sendto((wrong if reply_id == b"" else query[:2]) + b"\x81\x82" + query[4:], client)

        threading.Thread(target=answer, daemon=True).start()
        port = int(server.getsockname()[1])
        with pytest.raises(TimeoutError) as silent:
            ask_dns(LOOPBACK, "known.example.test", timeout_s=0.5, port=port)
        assert silent.value.strerror == "no answer within 0.5 s"
        assert ask_dns(LOOPBACK, "known.example.test", port=port) == DnsAnswer(2, 0)
