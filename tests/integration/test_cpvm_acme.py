# SPDX-License-Identifier: Apache-2.0
"""Certificates from a real ACME server, Pebble, whose challenges a console's listener answers."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import asdict
from cryptography import x509

from integration.acme_lab import Pebble, pebble
from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.fixtures import console, screen
from integration.cpvm_lab.vnc_server import FakeVncServer
from integration.cpvm_lab.wire import Connection, open_console
from public_pki import DOMAIN, WILDCARD
from small_cloud import CONSOLE_ORIGIN, SmallCloud
from small_cloud.fixtures import cloud, pristine
from systemvm.management.public_certificates.acme_conversation import (
    AcmeConversation,
    AcmeError,
    ExternalAccount,
)
from systemvm.management.public_certificates.acme_renewal import AcmeRenewal
from systemvm.management.public_certificates.remarks import EVENT
from systemvm.management.state import events, secrets
from systemvm.management.state.events import EventFilter
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.acme import CONSOLE_CHALLENGE, AcmeChallenges

pytestmark = pytest.mark.timeout(300)

__all__ = ["cloud", "console", "pristine", "screen"]  # fixtures


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, console: ConsoleProcess) -> Iterator[Pebble]:
    with pebble(tmp_path_factory.mktemp("pebble"), console.port) as running:
        yield running


def renewal(cloud: SmallCloud, server: Pebble) -> AcmeRenewal:
    return AcmeRenewal(
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


async def configure(cloud: SmallCloud, server: Pebble) -> str:
    """Ask for certificates of the CPVM's own name, and return that name."""
    for name, value in (
        ("consoleproxy.url.domain", WILDCARD),
        ("consoleproxy.acme.directory.url", server.directory_url),
        ("consoleproxy.acme.contact", f"operator@{DOMAIN}"),
    ):
        await cloud.call("updateConfiguration", name=name, value=value)
    return f"203-0-113-{100 + cloud.cpvm.id}.{DOMAIN}"


def connect(cloud: SmallCloud, console: ConsoleProcess, seen: list[Any]) -> None:
    """Let the console be the CPVM of the cloud; `seen` gets what a browser is shown during challenges."""

    def answer(challenges: AcmeChallenges) -> Acknowledgement:
        console.order("challenge", **asdict(challenges))
        if challenges.challenges:
            seen.append(Connection(console).tls.getpeercert())
        return Acknowledgement()

    peer = cloud.agents.peer(cloud.cpvm.instance_name)
    assert peer is not None
    peer.answers[CONSOLE_CHALLENGE] = answer


@pytest_twisted.ensureDeferred
async def test_a_certificate_is_ordered_used_and_renewed(
    cloud: SmallCloud,
    server: Pebble,
    console: ConsoleProcess,
    screen: FakeVncServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []
    connect(cloud, console, seen)
    host = await configure(cloud, server)
    address = f"203.0.113.{100 + cloud.cpvm.id}"
    assert cloud.sites.console(cloud.zone.name, address).url == CONSOLE_ORIGIN
    token, _ = console.issue(screen.port)
    session = open_console(console, token)
    session.greet()

    acme = renewal(cloud, server)
    await acme.run()
    assert failures(cloud) == []
    assert len(seen) == 1, "a browser was answered as always while the challenge was pending"
    endpoint = cloud.sites.console(cloud.zone.name, address)
    assert endpoint.url == f"https://{host}:8443"
    identity = cloud.sites.console_identity(cloud.zone.name, address)
    origin = f"https://{host}:{console.port}"
    pems = {"certificate_pem": identity.certificate_pem, "private_key_pem": identity.private_key_pem}
    console.order("setup", origin=origin, **pems)
    trusting = ssl.create_default_context(cadata=server.root_pem())
    trusting.check_hostname = False  # the lab's client asks for an address
    shown = Connection(console, trusting).tls.getpeercert()
    assert shown is not None and ("DNS", host) in shown["subjectAltName"]
    session.send_frame(2, b"still here")
    assert session.data(10) == b"still here"
    console.set_up()
    session.close()

    await acme.run()
    assert len(seen) == 1, "it is not due"
    leaf = x509.load_pem_x509_certificate(identity.certificate_pem.encode())
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    monkeypatch.setattr(cloud.sites, "now", lambda: leaf.not_valid_after_utc - life / 4)
    before = accounts(cloud)
    await acme.run()
    renewed = cloud.sites.console_identity(cloud.zone.name, address)
    assert failures(cloud) == []
    assert renewed.certificate_pem != identity.certificate_pem
    assert renewed.private_key_pem != identity.private_key_pem, "each has a key of its own"
    assert accounts(cloud) == before != []


@pytest_twisted.ensureDeferred
async def test_a_challenge_that_is_not_answered_is_reported_and_tried_later(
    cloud: SmallCloud, server: Pebble, console: ConsoleProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[AcmeChallenges] = []
    peer = cloud.agents.peer(cloud.cpvm.instance_name)
    assert peer is not None

    def ignore(challenges: AcmeChallenges) -> Acknowledgement:
        calls.append(challenges)
        return Acknowledgement()

    peer.answers[CONSOLE_CHALLENGE] = ignore
    host = await configure(cloud, server)
    acme = renewal(cloud, server)
    await acme.run()
    [text] = failures(cloud)
    assert f"certificate of {host} was not ordered" in text
    assert "port 443" in text
    assert [len(each.challenges) for each in calls] == [1, 0], "it is withdrawn"
    await acme.run()
    assert len(calls) == 2, "not at once again"
    now = cloud.sites.now()
    monkeypatch.setattr(cloud.sites, "now", lambda: now + timedelta(minutes=16))
    await acme.run()
    assert len(calls) == 4
    assert len(failures(cloud)) == 2


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_not_one_is_reported(cloud: SmallCloud, server: Pebble) -> None:
    await configure(cloud, server)
    acme = AcmeRenewal(
        cloud.clock,
        cloud.database,
        cloud.agents,
        cloud.seal,
        cloud.public_certificates,
        cloud.settings.secondary_storage,
    )
    await acme.run()  # its CA is not among those that this host trusts
    [text] = failures(cloud)
    assert "cannot be reached" in text and "trust its CA" in text


@pytest_twisted.ensureDeferred
async def test_an_external_account_is_registered_where_the_server_requires_one(
    cloud: SmallCloud, console: ConsoleProcess, tmp_path: Path
) -> None:
    hmac_key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    with pebble(tmp_path, console.port, {"kid-1": hmac_key}) as strict:
        connect(cloud, console, [])
        host = await configure(cloud, strict)
        acme = renewal(cloud, strict)
        await acme.run()
        [text] = failures(cloud)
        assert "systemvm certificate public register-acme" in text
        with pytest.raises(AcmeError):
            await acme.register(strict.directory_url, "", ExternalAccount("kid-2", hmac_key))
        external = ExternalAccount("kid-1", hmac_key)
        assert hmac_key not in repr(external)
        uri = await acme.register(strict.directory_url, f"operator@{DOMAIN}", external)
        await acme.run()
        assert len(failures(cloud)) == 1
        assert cloud.sites.certificate_of(host) is not None
        [account] = accounts(cloud)
        assert uri in account and hmac_key not in account
        assert "BEGIN PRIVATE KEY" in account


def failures(cloud: SmallCloud) -> list[str]:
    found = cloud.database.run_now(events.newest, 10, EventFilter(type=EVENT))
    return [event.description for event in found if "was not ordered" in event.description]


def accounts(cloud: SmallCloud) -> list[str]:
    rows = cloud.database.run_now(secrets.rows.all)
    for row in rows:
        assert b"PRIVATE" not in row.sealed
    return [cloud.seal.open(row.sealed) for row in rows if row.name.startswith("acme.")]
