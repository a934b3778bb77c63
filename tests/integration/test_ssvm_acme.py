# SPDX-License-Identifier: Apache-2.0
"""A certificate for images from a real ACME server, Pebble, whose challenge the SSVM's serve answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme

from integration.acme_lab import Pebble, pebble
from integration.ssvm_lab.daemon import Daemon
from integration.ssvm_lab.fixtures import daemon, world
from integration.ssvm_lab.public_client import Client, identity
from integration.ssvm_lab.world import VM, World
from integration.test_ssvm_extract import CONTENT, link, publish, serve
from public_pki import DOMAIN
from small_cloud import SmallCloud
from small_cloud.fixtures import cloud, pristine
from systemvm.lab import namespaces
from systemvm.management.public_certificates.acme_conversation import AcmeConversation
from systemvm.management.public_certificates.acme_renewal import AcmeRenewal, AcmeState
from systemvm.management.public_certificates.public_service import PublicService
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.acme import EXTRACT_CHALLENGE
from systemvm.wire.extract import EXTRACT_LINKS, EXTRACT_SETUP, ExtractSetup

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

__all__ = ["cloud", "daemon", "pristine", "world"]  # fixtures


class Forwarder:
    """Lead connections to a port of loopback to port 443 of the SSVM, from the public network."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.count = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listening.accept()
                self.count += 1
                far = namespaces.inside(
                    self._world.world_namespace, lambda: socket.create_connection((VM, 443), 30)
                )
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def forwarder(world: World) -> Iterator[Forwarder]:
    forwarder = Forwarder(world)
    yield forwarder
    forwarder.close()


@pytest.fixture
def server(tmp_path: Path, forwarder: Forwarder) -> Iterator[Pebble]:
    with pebble(tmp_path, forwarder.port) as running:
        yield running


def connect(cloud: SmallCloud, daemon: Daemon) -> list[ExtractSetup]:
    """Let the SSVM of the world be that of the cloud; return the setups that it has taken."""
    setups: list[ExtractSetup] = []

    def forward(method: str) -> Callable[[Any], Coroutine[Any, Any, Any]]:
        async def call(params: Any) -> Any:
            answer = await daemon.call(method, params, Acknowledgement)
            if method == EXTRACT_SETUP:
                setups.append(params)
            return answer

        return call

    for method in (EXTRACT_SETUP, EXTRACT_LINKS, EXTRACT_CHALLENGE):
        cloud.ssvm_peer.answers[method] = forward(method)
    return setups


@pytest_twisted.ensureDeferred
async def test_an_ssvm_gets_its_certificate_from_an_acme_server(
    cloud: SmallCloud, daemon: Daemon, world: World, server: Pebble, forwarder: Forwarder, tmp_path: Path
) -> None:
    publish(world)
    await daemon.call(EXTRACT_SETUP, identity(trustme.CA(), VM), Acknowledgement)
    assert world.serve_pids() == [], "nothing is served yet: the challenge starts it"
    setups = connect(cloud, daemon)
    for name, value in (
        ("secstorage.ssl.cert.domain", DOMAIN),
        ("secstorage.acme.directory.url", server.directory_url),
    ):
        await cloud.call("updateConfiguration", name=name, value=value)
    acme = AcmeRenewal(
        cloud.clock,
        cloud.database,
        cloud.agents,
        cloud.seal,
        cloud.public_certificates,
        cloud.settings.secondary_storage,
        lambda url, account, contact, external: AcmeConversation(
            url, account, contact, server.ca_file, external
        ),
    )
    await acme.run()
    status = acme.status(PublicService.STORAGE, cloud.zone.name, DOMAIN)
    assert status is not None and status.state is AcmeState.ISSUED, status
    assert forwarder.count > 0, "Pebble has looked at port 443"
    assert setups[-1].origin == f"https://{DOMAIN}"

    known = link()
    await serve(daemon, setups[-1], known)
    (tmp_path / "root.pem").write_text(server.root_pem())
    client = Client(world, tmp_path / "root.pem")
    resolved = f"{DOMAIN}:443:{VM}"
    assert client.get(f"https://{DOMAIN}{known.path}", "--resolve", resolved) == CONTENT
    [name] = (await cloud.call("listPublicNames", service="secondarystorage"))["publicname"]
    assert (name["name"], name["source"], name["state"]) == (DOMAIN, "acme", "valid")
    assert name["systemvms"] == [cloud.ssvm.instance_name]
    assert "Pebble" in name["issuer"]
