# SPDX-License-Identifier: Apache-2.0
"""Orders certificates from an ACME server for the names of system VMs, and renews them in time.

A name with a star cannot be proved by the challenge tls-alpn-01: then each system VM gets a certificate
for its own name. A failure is tried again later and later, so that no server takes us for a flood.
"""

from __future__ import annotations

import enum
import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from attrs import evolve, frozen
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.control.agent import Agent
from systemvm.management.control.agent_calls import ConnectedAgents
from systemvm.management.pki.seal import Seal
from systemvm.management.public_certificates.acme_conversation import (
    AcmeAccount,
    AcmeConversation,
    AcmeError,
    AcmeOrder,
    ExternalAccount,
    new_account,
)
from systemvm.management.public_certificates.chain import check
from systemvm.management.public_certificates.errors import NotTakenError, PublicCertificateError
from systemvm.management.public_certificates.public_service import PublicService, host_at, public_address
from systemvm.management.public_certificates.remarks import EVENT
from systemvm.management.public_certificates.service import PublicCertificates
from systemvm.management.public_certificates.validity import RENEW_LEFT
from systemvm.management.state import events, instances, secrets, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.public_certificates import Source
from systemvm.rpc.core.errors import RpcError
from systemvm.service.periodic import Periodic
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.acme import CONSOLE_CHALLENGE, EXTRACT_CHALLENGE, AcmeChallenge, AcmeChallenges
from systemvm.wire.role import Role
from systemvm.wire.vm_name import VmName

INTERVAL_S = 900.0
ORDER_DEADLINE = timedelta(minutes=10)
#: In an SSVM the first challenge starts serve, whose imports take long without KVM.
ANSWER_DEADLINE_S = 95.0
FIRST_RETRY = timedelta(minutes=15)
LAST_RETRY = timedelta(hours=24)


class Conversation(Protocol):
    """The blocking steps (`acme_conversation.py`)."""

    def open(self) -> AcmeAccount: ...
    def order(self, host: str) -> AcmeOrder: ...
    def finish(self, order: AcmeOrder, deadline: datetime) -> str: ...


#: By directory, account, contact and external account.
Converse = Callable[[str, AcmeAccount, str, ExternalAccount | None], Conversation]


def _converse(
    directory_url: str, account: AcmeAccount, contact: str, external: ExternalAccount | None
) -> Conversation:
    return AcmeConversation(directory_url, account, contact, external=external)


#: How the system VMs of a service are told their challenges, and the role of their agents.
_CHALLENGED = {
    PublicService.CONSOLE: (CONSOLE_CHALLENGE, Role.CPVM),
    PublicService.STORAGE: (EXTRACT_CHALLENGE, Role.SSVM),
}


@frozen
class Answerer:
    """A system VM that a name leads to, and the method by which it gets challenges."""

    name: str
    method: str


@frozen
class Wanted:
    """A name that needs a certificate, and the system VMs that it leads to."""

    host: str
    directory_url: str
    contact: str
    answerers: tuple[Answerer, ...]


@frozen
class _Failures:
    """How often an order failed, why the last one did, and when it is tried again."""

    count: int
    again: datetime
    message: str
    hint: str


class AcmeState(enum.Enum):
    """Of a name whose setting has a directory."""

    UNNAMED = "unnamed"  # the setting of its name is empty
    WAITING = "waiting"  # for the next look, or for a system VM that is Up
    ORDERING = "ordering"
    ISSUED = "issued"
    FAILED = "failed"
    OVERRIDDEN = "overridden"  # by the certificate of an operator


@frozen
class AcmeStatus:
    """What the renewal knows of a name."""

    directory_url: str
    state: AcmeState
    reason: str = ""
    hint: str = ""
    again: datetime | None = None


class AcmeRenewal:
    """One order at a time."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        database: Database,
        agents: ConnectedAgents,
        seal: Seal,
        certificates: PublicCertificates,
        storage_of: Callable[[str], SecondaryStorageConfig],
        converse: Converse | None = None,
        in_thread: Callable[..., Any] = deferToThread,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`storage_of` returns what a zone's file says of its SSVMs."""
        self._database = database
        self._agents = agents
        self._seal = seal
        self._certificates = certificates
        self._storage_of = storage_of
        self._converse = converse or _converse
        self._in_thread = in_thread
        self._uniform = uniform
        self._failures: dict[str, _Failures] = {}
        self._ordering = DeferredLock()
        self._ordered_host = ""
        self._periodic = Periodic(clock, self.run, INTERVAL_S, what="order certificates")

    def start(self) -> None:
        self._periodic.start(now=True)

    def stop(self) -> None:
        self._periodic.stop()

    def changed(self) -> None:
        """Look at once: a setting changed, and what failed before can succeed now."""
        self._failures.clear()
        self._periodic.run_soon()

    async def agent_up(self, agent: Agent) -> None:
        """Look at once: of a domain's names that of a new system VM has no certificate yet."""
        self._periodic.run_soon()

    def status(self, service: PublicService, zone_name: str, host: str) -> AcmeStatus | None:
        """Return what is known of a name; None when the settings have no directory for it."""
        sites = self._certificates.sites
        url = service.acme_directory(sites.names(zone_name))
        if not url:
            return None
        if not service.wanted(sites.names(zone_name)):
            return AcmeStatus(url, AcmeState.UNNAMED)
        if host == self._ordered_host:
            return AcmeStatus(url, AcmeState.ORDERING)
        if self._is_overridden(host):
            return AcmeStatus(url, AcmeState.OVERRIDDEN)
        failed = self._failures.get(host)
        if failed is not None:
            return AcmeStatus(url, AcmeState.FAILED, failed.message, failed.hint, failed.again)
        found = sites.certificate_of(host)
        return AcmeStatus(url, AcmeState.WAITING if found is None else AcmeState.ISSUED)

    async def register(self, directory_url: str, contact: str, external: ExternalAccount) -> str:
        """Register the account of a directory with one that its operator has there; return its URI.

        Raises: AcmeError when the server refuses it.
        """
        account = await self._database.run(self._account, directory_url)
        talk = self._converse(directory_url, account, contact, external)
        registered: AcmeAccount = await self._in_thread(talk.open)
        await self._database.run(self._keep, directory_url, registered)
        self.changed()
        return registered.uri

    async def run(self) -> None:
        """Order what is needed now, one name after another."""
        sites = self._certificates.sites
        for wanted in await self._database.read(self._wanted):
            failures = self._failures.get(wanted.host)
            if failures is not None and sites.now() < failures.again:
                continue
            try:
                await self._order(wanted, only_due=True)
            except AcmeError as error:
                self._log.info(
                    "{host} has no new certificate: {error}", host=wanted.host, error=error.message
                )

    async def renew(self, host: str) -> None:
        """Order a certificate of a name now, whatever its age.

        Raises: AcmeError when there is none.
        """
        found = await self._database.read(self._wanted)
        wanted = next((each for each in found if each.host == host), None)
        if wanted is None:
            raise AcmeError(
                f"no system VM that is Up can answer for {host}",
                'see "systemvm system-vm list" for the reason',
            )
        if self._is_overridden(host):
            raise AcmeError(
                f"certificate of {host} is an operator's own", "remove it first, or send a newer one"
            )
        await self._order(wanted)

    def _wanted(self, connection: Connection) -> list[Wanted]:
        sites = self._certificates.sites
        found: dict[str, Wanted] = {}
        for zone in zones.list_zones(connection):
            of_zone = sites.names(zone.name)
            for service, (method, role) in _CHALLENGED.items():
                url, name = service.acme_directory(of_zone), service.wanted(of_zone)
                if not url or not name or not self._ends_tls(service, zone.name):
                    continue
                up = {VmName(each) for each in self._agents.up(role)}
                for vm in instances.list_system(connection, zone.id):
                    address = public_address(connection, vm) if vm.type is service.vm_type else None
                    if address is None or VmName(vm.instance_name) not in up:
                        continue
                    host = host_at(name, address)
                    wanted = found.get(host) or Wanted(host, url, of_zone.acme_contact, ())
                    answerer = Answerer(vm.instance_name, method)
                    found[host] = evolve(wanted, answerers=(*wanted.answerers, answerer))
        return list(found.values())

    def _ends_tls(self, service: PublicService, zone_name: str) -> bool:
        """Return whether a system VM has the certificate itself, not the proxy in front of it."""
        return service is not PublicService.STORAGE or self._storage_of(zone_name).endpoint.scheme == "https"

    def _is_overridden(self, host: str) -> bool:
        sites = self._certificates.sites
        found = sites.certificate_of(host)
        is_own = found is not None and found.row.source != Source.ACME.value
        return is_own or sites.uses_files(host)

    def _is_due(self, host: str) -> bool:
        sites = self._certificates.sites
        if self._is_overridden(host):
            return False  # the operator's own comes first
        found = sites.certificate_of(host)
        if found is None:
            return True
        left = found.row.not_after - sites.now()
        return left < (found.row.not_after - found.not_before) * RENEW_LEFT

    async def _order(self, wanted: Wanted, *, only_due: bool = False) -> None:
        """Order a certificate, and use it.

        Only when it is due, if so wanted: another order of the name can have ended meanwhile.

        Raises: AcmeError with the reason, which is recorded.
        """
        await self._ordering.acquire()
        try:
            if only_due and not self._is_due(wanted.host):
                return
            self._ordered_host = wanted.host
            await self._order_now(wanted)
        except (AcmeError, NotTakenError, PublicCertificateError) as error:
            await self._failed(wanted.host, error.message, error.hint)
            raise AcmeError(error.message, error.hint) from None
        except RpcError as error:
            message = f"system VM cannot answer the challenge: {error.message}"
            await self._failed(wanted.host, message, error.hint or "")
            raise AcmeError(message, error.hint or "") from None
        else:
            self._failures.pop(wanted.host, None)
        finally:
            self._ordered_host = ""
            self._ordering.release()

    async def _order_now(self, wanted: Wanted) -> None:
        account = await self._database.run(self._account, wanted.directory_url)
        talk = self._converse(wanted.directory_url, account, wanted.contact, None)
        registered = await self._in_thread(talk.open)
        if registered != account:
            await self._database.run(self._keep, wanted.directory_url, registered)
        order = await self._in_thread(talk.order, wanted.host)
        try:
            await self._answer(wanted.answerers, order.challenges)
            now = self._certificates.sites.now()
            chain_pem = await self._in_thread(talk.finish, order, now + ORDER_DEADLINE)
        finally:
            await self._withdraw(wanted.answerers)
        checked = check(chain_pem, order.key_pem, [], [], self._certificates.sites.now(), needs_root=False)
        stored = await self._certificates.put(checked, wanted.host, Source.ACME, None)
        await self._certificates.spread(stored.row.id, stored.before_id)
        self._log.info("{host} has a certificate of {url}", host=wanted.host, url=wanted.directory_url)

    async def _answer(self, answerers: Sequence[Answerer], challenges: list[AcmeChallenge]) -> None:
        for each in answerers if challenges else ():
            await self._challenge(each, AcmeChallenges(challenges))

    async def _withdraw(self, answerers: Sequence[Answerer]) -> None:
        for each in answerers:
            try:
                await self._challenge(each, AcmeChallenges([]))
            except RpcError as error:
                self._log.info("{name} forgets its challenge later: {error}", name=each.name, error=error)

    async def _challenge(self, answerer: Answerer, challenges: AcmeChallenges) -> None:
        peer = self._agents.peer(answerer.name)
        if peer is not None:
            await peer.call(answerer.method, challenges, result=Acknowledgement, deadline_s=ANSWER_DEADLINE_S)

    async def _failed(self, host: str, message: str, hint: str) -> None:
        before = self._failures.get(host)
        count = 1 if before is None else before.count + 1
        wait = min(LAST_RETRY, FIRST_RETRY * 2 ** min(count - 1, 10)) * self._uniform(0.9, 1.0)
        again = self._certificates.sites.now() + wait
        self._failures[host] = _Failures(count, again, message, hint)
        text = f"certificate of {host} was not ordered: {message}" + (f"; {hint}" if hint else "")
        self._log.warn("{text}", text=text)

        def record(connection: Connection) -> None:
            events.record(connection, EVENT, text, level="WARN", resource_type="Certificate")

        await self._database.run(record)

    def _account(self, connection: Connection, directory_url: str) -> AcmeAccount:
        """Return the account of a directory; its key is made and stored before the server sees it."""
        sealed = secrets.sealed(connection, _name_of(directory_url))
        if sealed is None:
            account = new_account()
            secrets.put(connection, _name_of(directory_url), self._sealed(account))
            return account
        stored: Mapping[str, str] = json.loads(self._seal.open(sealed))
        return AcmeAccount(stored["key"], stored["uri"])

    def _keep(self, connection: Connection, directory_url: str, account: AcmeAccount) -> None:
        secrets.replace(connection, _name_of(directory_url), self._sealed(account))

    def _sealed(self, account: AcmeAccount) -> bytes:
        return self._seal.close(json.dumps({"key": account.key_pem, "uri": account.uri}))


def _name_of(directory_url: str) -> str:
    return f"acme.{hashlib.sha256(directory_url.encode()).hexdigest()[:32]}"
