# SPDX-License-Identifier: Apache-2.0
"""When certificates are ordered, for which names, and when again after a failure; the server is a fake.

tests/integration/test_cpvm_acme.py has a real one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet.defer import Deferred

from public_pki import DOMAIN, INTERMEDIATE, NOW, ROOT, WILDCARD, server
from settling import settled
from small_cloud import CONSOLE_ORIGIN, SmallCloud
from systemvm.host.zone import ConsoleConfig, SecondaryStorageConfig
from systemvm.management.control.agent import Agent, AgentStatus
from systemvm.management.pki.public import IdentitySource
from systemvm.management.public_certificates.acme_conversation import (
    AcmeAccount,
    AcmeError,
    AcmeOrder,
    ExternalAccount,
)
from systemvm.management.public_certificates.acme_renewal import AcmeRenewal, AcmeState
from systemvm.management.public_certificates.public_service import PublicService
from systemvm.management.public_certificates.remarks import EVENT
from systemvm.management.state import events
from systemvm.management.state.events import EventFilter
from systemvm.management.state.status import AgentState, InstanceType
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.acme import CONSOLE_CHALLENGE, EXTRACT_CHALLENGE, AcmeChallenge
from systemvm.wire.extract import EXTRACT_LINKS, EXTRACT_SETUP
from systemvm.wire.role import Role

DIRECTORY = "https://acme.example.test/dir"


@define
class FakeAcmeServer:
    """Issues what is ordered, or fails."""

    fails_with: AcmeError | None = None
    fails_for: set[str] = field(factory=set)
    on_order: Callable[[], None] = lambda: None
    ordered: list[str] = field(factory=list)
    contacts: set[str] = field(factory=set)
    accounts: set[str] = field(factory=set)

    def converse(
        self, url: str, account: AcmeAccount, contact: str, external: ExternalAccount | None
    ) -> FakeConversation:
        assert url == DIRECTORY
        self.contacts.add(contact)
        return FakeConversation(self, account)


@define
class FakeConversation:
    server: FakeAcmeServer
    account: AcmeAccount
    issued: Any = None

    def open(self) -> AcmeAccount:
        self.server.accounts.add(self.account.key_pem)
        return AcmeAccount(self.account.key_pem, f"{DIRECTORY}/account/1")

    def order(self, host: str) -> AcmeOrder:
        self.server.ordered.append(host)
        self.server.on_order()
        if self.server.fails_with is not None:
            raise self.server.fails_with
        if host in self.server.fails_for:
            raise AcmeError(f"cannot order a certificate for {host}: its address is unknown", "correct DNS")
        self.issued = server(host)
        return AcmeOrder(None, self.issued.key_pem, [AcmeChallenge(host, "proof", "its key")], [])

    def finish(self, order: AcmeOrder, deadline: datetime) -> str:
        return str(self.issued.pem + INTERMEDIATE.pem)


async def at_once(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


@pytest.fixture
def acme_server() -> FakeAcmeServer:
    return FakeAcmeServer()


@pytest.fixture
def acme(cloud: SmallCloud, acme_server: FakeAcmeServer) -> AcmeRenewal:
    peer = cloud.agents.peer(cloud.cpvm.instance_name)
    assert peer is not None
    peer.answers[CONSOLE_CHALLENGE] = lambda _: Acknowledgement()
    return AcmeRenewal(
        cloud.clock,
        cloud.database,
        cloud.agents,
        cloud.seal,
        cloud.public_certificates,
        cloud.settings.secondary_storage,
        acme_server.converse,
        at_once,
        lambda least, most: most,
    )


async def configure(cloud: SmallCloud, domain: str) -> None:
    for name, value in (
        ("consoleproxy.url.domain", domain),
        ("consoleproxy.acme.directory.url", DIRECTORY),
        ("consoleproxy.acme.contact", f"operator@{DOMAIN.upper()}"),
    ):
        await cloud.call("updateConfiguration", name=name, value=value, zoneid=cloud.zone.uuid)


def host_of(cloud: SmallCloud) -> str:
    return f"203-0-113-{100 + cloud.cpvm.id}.{DOMAIN}"


def warnings(cloud: SmallCloud) -> list[str]:
    found = cloud.database.run_now(events.newest, 20, EventFilter(type=EVENT, level="WARN"))
    return [event.description for event in found]


@pytest_twisted.ensureDeferred
async def test_nothing_is_ordered_without_a_directory_and_a_name(
    cloud: SmallCloud, acme: AcmeRenewal, acme_server: FakeAcmeServer
) -> None:
    await acme.run()
    await cloud.call("updateConfiguration", name="consoleproxy.acme.directory.url", value=DIRECTORY)
    await acme.run()
    assert acme_server.ordered == []


@pytest_twisted.ensureDeferred
async def test_each_console_proxy_of_a_wildcard_gets_its_own(
    cloud: SmallCloud, acme: AcmeRenewal, acme_server: FakeAcmeServer
) -> None:
    second = cloud.add_system_vm(InstanceType.CONSOLE_PROXY)
    cloud.agents.connect(second.instance_name, Role.CPVM).answers[CONSOLE_CHALLENGE] = lambda _: (
        Acknowledgement()
    )
    await configure(cloud, WILDCARD)
    await acme.run()
    hosts = [host_of(cloud), f"203-0-113-{100 + second.id}.{DOMAIN}"]
    assert acme_server.ordered == hosts
    assert acme_server.contacts == {f"operator@{DOMAIN}"}
    assert len(acme_server.accounts) == 1
    for host, vm in zip(hosts, (cloud.cpvm, second), strict=True):
        endpoint = cloud.sites.console(cloud.zone.name, f"203.0.113.{100 + vm.id}")
        assert endpoint.host == host
    await acme.run()
    assert acme_server.ordered == hosts, "none is due"


@pytest_twisted.ensureDeferred
async def test_all_console_proxies_answer_for_one_name(
    cloud: SmallCloud, acme: AcmeRenewal, acme_server: FakeAcmeServer
) -> None:
    second = cloud.add_system_vm(InstanceType.CONSOLE_PROXY)
    other = cloud.agents.connect(second.instance_name, Role.CPVM)
    other.answers[CONSOLE_CHALLENGE] = lambda _: Acknowledgement()
    await configure(cloud, DOMAIN)
    await acme.run()
    assert acme_server.ordered == [DOMAIN]
    first = cloud.agents.peer(cloud.cpvm.instance_name)
    assert first is not None
    for peer in (first, other):
        sent = [each.challenges for each in peer.params_of(CONSOLE_CHALLENGE)]
        assert sent == [[AcmeChallenge(DOMAIN, "proof", "its key")], []]


@pytest_twisted.ensureDeferred
async def test_each_ssvm_of_a_wildcard_gets_its_own_and_keeps_its_address_until_then(
    cloud: SmallCloud, acme: AcmeRenewal, acme_server: FakeAcmeServer
) -> None:
    second = cloud.add_system_vm(InstanceType.SECONDARY_STORAGE)
    other = cloud.agents.connect(second.instance_name, Role.SSVM)
    for peer in (cloud.ssvm_peer, other):
        peer.answers[EXTRACT_CHALLENGE] = peer.answers[EXTRACT_SETUP] = lambda _: Acknowledgement()
        peer.answers[EXTRACT_LINKS] = lambda _: Acknowledgement()
    addresses = [f"203.0.113.{100 + vm.id}" for vm in (cloud.ssvm, second)]
    hosts = [f"{address.replace('.', '-')}.{DOMAIN}" for address in addresses]
    for name, value in (
        ("secstorage.ssl.cert.domain", WILDCARD),
        ("secstorage.acme.directory.url", DIRECTORY),
    ):
        await cloud.call("updateConfiguration", name=name, value=value, zoneid=cloud.zone.uuid)

    acme_server.fails_for = {hosts[1]}
    await acme.run()
    assert acme_server.ordered == hosts
    assert [each.challenges for each in cloud.ssvm_peer.params_of(EXTRACT_CHALLENGE)] == [
        [AcmeChallenge(hosts[0], "proof", "its key")],
        [],
    ]
    setups = [peer.params_of(EXTRACT_SETUP)[-1].origin for peer in (cloud.ssvm_peer, other)]
    assert setups == [f"https://{hosts[0]}", f"https://{addresses[1]}"], "a name only with its certificate"

    acme_server.fails_for = set()
    await acme.renew(hosts[1])
    assert other.params_of(EXTRACT_SETUP)[-1].origin == f"https://{hosts[1]}"
    assert cloud.sites.console(cloud.zone.name, "203.0.113.9").url == CONSOLE_ORIGIN, (
        "consoles have no server"
    )


@pytest_twisted.ensureDeferred
async def test_names_behind_a_proxy_that_ends_tls_are_not_ordered(
    cloud: SmallCloud, acme: AcmeRenewal, acme_server: FakeAcmeServer
) -> None:
    cloud.settings.storage = SecondaryStorageConfig(origin="http://*")
    for name, value in (
        ("secstorage.ssl.cert.domain", DOMAIN),
        ("secstorage.acme.directory.url", DIRECTORY),
    ):
        await cloud.call("updateConfiguration", name=name, value=value)
    await acme.run()
    assert acme_server.ordered == []


@pytest_twisted.ensureDeferred
async def test_the_state_of_a_name_says_what_comes_next(
    cloud: SmallCloud, acme: AcmeRenewal, acme_server: FakeAcmeServer
) -> None:
    def state() -> tuple[AcmeState, str]:
        status = acme.status(PublicService.CONSOLE, cloud.zone.name, DOMAIN)
        assert status is not None and status.directory_url == DIRECTORY
        return status.state, status.reason

    assert acme.status(PublicService.CONSOLE, cloud.zone.name, DOMAIN) is None
    await configure(cloud, DOMAIN)
    assert acme.status(PublicService.STORAGE, cloud.zone.name, DOMAIN) is None
    assert state() == (AcmeState.WAITING, "")
    acme_server.fails_with = AcmeError("cannot order: too many requests", "wait")
    await acme.run()
    assert state() == (AcmeState.FAILED, "cannot order: too many requests")
    with pytest.raises(AcmeError, match="too many requests"):
        await acme.renew(DOMAIN)
    acme_server.fails_with = None
    acme_server.on_order = lambda: during.append(state()[0])
    during: list[AcmeState] = []
    await acme.renew(DOMAIN)
    assert during == [AcmeState.ORDERING]
    assert state() == (AcmeState.ISSUED, "")
    with pytest.raises(AcmeError, match="no system VM that is Up can answer"):
        await acme.renew(f"other.{DOMAIN}")


@pytest_twisted.ensureDeferred
async def test_a_system_vm_that_comes_up_gets_its_certificate_at_once(
    cloud: SmallCloud, acme: AcmeRenewal, acme_server: FakeAcmeServer
) -> None:
    await configure(cloud, WILDCARD)
    acme.start()
    await settled(cloud.database)
    assert acme_server.ordered == [host_of(cloud)]
    second = cloud.add_system_vm(InstanceType.CONSOLE_PROXY)
    peer = cloud.agents.connect(second.instance_name, Role.CPVM)
    peer.answers[CONSOLE_CHALLENGE] = lambda _: Acknowledgement()
    await acme.agent_up(Agent(second.instance_name, Role.CPVM, AgentStatus(AgentState.UP)))
    await settled(cloud.database)
    assert acme_server.ordered[1:] == [f"203-0-113-{100 + second.id}.{DOMAIN}"]
    acme.stop()


@pytest_twisted.ensureDeferred
async def test_what_was_ordered_meanwhile_is_not_ordered_again(
    cloud: SmallCloud, acme: AcmeRenewal, acme_server: FakeAcmeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate: Deferred[None] = Deferred()

    async def held(function: Callable[..., Any], *arguments: Any) -> Any:
        if function.__name__ == "finish":
            await gate
        return function(*arguments)

    monkeypatch.setattr(acme, "_in_thread", held)
    await configure(cloud, DOMAIN)
    by_hand = Deferred.fromCoroutine(acme.renew(DOMAIN))
    await settled(cloud.database)
    by_time = Deferred.fromCoroutine(acme.run())
    await settled(cloud.database)
    assert acme_server.ordered == [DOMAIN] and not by_hand.called and not by_time.called
    gate.callback(None)
    await by_hand
    await by_time
    assert acme_server.ordered == [DOMAIN]


@pytest_twisted.ensureDeferred
async def test_a_certificate_is_renewed_at_a_third_of_its_life(
    cloud: SmallCloud, acme: AcmeRenewal, acme_server: FakeAcmeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await configure(cloud, DOMAIN)
    await acme.run()
    for days, count in ((59, 1), (61, 2)):  # of 91
        monkeypatch.setattr(cloud.sites, "now", lambda days=days: NOW + timedelta(days=days))
        await acme.run()
        assert len(acme_server.ordered) == count, days


@pytest_twisted.ensureDeferred
async def test_an_uploaded_certificate_comes_first(
    cloud: SmallCloud, acme: AcmeRenewal, acme_server: FakeAcmeServer
) -> None:
    leaf = server()
    text = leaf.pem + INTERMEDIATE.pem + ROOT.pem
    given = {"certificate": text, "privatekey": leaf.key_pem, "domainsuffix": DOMAIN}
    await cloud.job("uploadCustomCertificate", **given)
    await configure(cloud, WILDCARD)
    await acme.run()
    assert acme_server.ordered == []


@pytest_twisted.ensureDeferred
async def test_a_certificate_in_files_comes_first(
    cloud: SmallCloud, acme: AcmeRenewal, acme_server: FakeAcmeServer, tmp_path: Path
) -> None:
    leaf = server(DOMAIN)
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_text(leaf.pem + INTERMEDIATE.pem)
    key.write_text(leaf.key_pem)
    cloud.console = ConsoleConfig(origin=f"https://{DOMAIN}", certificate_file=chain, key_file=key)
    await configure(cloud, DOMAIN)
    assert cloud.sites.console_identity(cloud.zone.name, "203.0.113.9").source is IdentitySource.FILE
    await acme.run()
    assert acme_server.ordered == []
    status = acme.status(PublicService.CONSOLE, cloud.zone.name, DOMAIN)
    assert status is not None and status.state is AcmeState.OVERRIDDEN


@pytest_twisted.ensureDeferred
async def test_a_failure_is_reported_and_tried_later_and_later(
    cloud: SmallCloud, acme: AcmeRenewal, acme_server: FakeAcmeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await configure(cloud, DOMAIN)
    acme_server.fails_with = AcmeError("cannot order: too many requests", "wait")
    minutes, tried = 0, []
    while minutes < 4 * 24 * 60:
        monkeypatch.setattr(cloud.sites, "now", lambda: NOW + timedelta(minutes=minutes))  # noqa: B023
        before = len(acme_server.ordered)
        await acme.run()
        if len(acme_server.ordered) > before:
            tried.append(minutes)
        minutes += 15
    waits = [later - earlier for earlier, later in pairwise(tried)]
    assert waits == [15, 30, 60, 120, 240, 480, 960, 1440, 1440][: len(waits)]
    assert len(waits) >= 8
    assert len(warnings(cloud)) == len(tried)
    assert f"certificate of {DOMAIN} was not ordered: cannot order: too many requests; wait" in warnings(
        cloud
    )

    acme_server.fails_with = None
    acme.changed()  # a setting was corrected
    await acme.run()
    assert cloud.sites.certificate_of(DOMAIN) is not None


@pytest_twisted.ensureDeferred
async def test_the_key_of_the_account_is_sealed_and_used_again(
    cloud: SmallCloud, acme: AcmeRenewal, acme_server: FakeAcmeServer
) -> None:
    await configure(cloud, DOMAIN)
    acme_server.fails_with = AcmeError("not yet")
    await acme.run()
    acme.changed()
    acme_server.fails_with = None
    await acme.run()
    assert len(acme_server.ordered) == 2
    [key_pem] = acme_server.accounts

    def dump(connection: Any) -> str:
        return str(connection.exec_driver_sql("SELECT * FROM secrets").fetchall())

    assert "acme." in cloud.database.run_now(dump)
    assert key_pem.splitlines()[1][:20] not in cloud.database.run_now(dump)
