# SPDX-License-Identifier: Apache-2.0
"""An agent's metrics on the network of eth1, in a namespace of its own: scraped there, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.netns, pytest.mark.timeout(60)]

TOP = Path(__file__).resolve().parents[2]
ADDRESS, OTHER = "10.11.7.1", "10.13.7.1"
LISTENER = f"""
import sys
from systemvm.service import direct_epoll
direct_epoll.install()
from twisted.internet import reactor
from systemvm.guest import metrics_port
from systemvm.service.metrics import gauge
expose = metrics_port.exposition_of([lambda: [gauge("test_open", "Open now", 3)]])
assert metrics_port.listen(reactor, {{"eth1ip": "{ADDRESS}"}}, expose)
reactor.callWhenRunning(print, "listening", flush=True)
reactor.run()
"""
SCRAPE = """
import sys, urllib.request
try:
    with urllib.request.urlopen(f"http://{sys.argv[1]}:9180/metrics", timeout=120) as answer:
        print(answer.status, answer.read().decode())
except OSError as refused:
    print("refused", getattr(refused, "reason", refused))
"""


@pytest.fixture
def networks() -> Iterator[str]:
    """Make a namespace with eth1 and eth2, each connected to a client's namespace of its own."""
    name = f"metrics{os.getpid()}"
    clients = {"eth1": f"{name}a", "eth2": f"{name}b"}
    namespaces = [name, *clients.values()]
    for each in namespaces:
        _ip("netns", "add", each)
    try:
        for device, address in (("eth1", ADDRESS), ("eth2", OTHER)):
            client = clients[device]
            peer = ("peer", "name", "net", "netns", client)
            _ip("-n", name, "link", "add", device, "type", "veth", *peer)
            _ip("-n", name, "address", "add", f"{address}/24", "dev", device)
            _ip("-n", name, "link", "set", device, "up")
            _ip("-n", client, "address", "add", f"{address[:-1]}2/24", "dev", "net")
            _ip("-n", client, "link", "set", "net", "up")
            _ip("-n", client, "route", "add", "default", "via", address)
        yield name
    finally:
        for each in namespaces:
            _ip("netns", "delete", each)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=120)


def _python(namespace: str, *arguments: str) -> list[str]:
    return ["ip", "netns", "exec", namespace, sys.executable, *arguments]


def test_metrics_are_scraped_from_the_network_of_eth1_only(networks: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(TOP / "agents")}
    with subprocess.Popen(
        _python(networks, "-c", LISTENER), stdout=subprocess.PIPE, text=True, env=environment
    ) as listener:
        try:
            assert listener.stdout is not None
            assert listener.stdout.readline() == "listening\n"

            def scrape(client: str) -> str:
                command = _python(f"{networks}{client}", "-c", SCRAPE, ADDRESS)
                done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
                return done.stdout

            shown = scrape("a")
            assert shown.startswith("200 ")
            assert "\ntest_open 3.0\n" in shown
            assert "\nprocess_open_fds " in shown
            # Linux answers for its addresses on any interface, but this socket belongs to eth1
            assert scrape("b").startswith("refused")
        finally:
            listener.terminate()
