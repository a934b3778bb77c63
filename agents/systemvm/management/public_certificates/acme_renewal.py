# SPDX-License-Identifier: Apache-2.0
"""Orders certificates from an ACME server for the names of console proxies, and renews them in time.

A name with a star cannot be proved by the challenge tls-alpn-01: then each console proxy gets a certificate
for its own name. A failure is tried again later and later, so that no server takes us for a flood.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any, Protocol

from attrs import evolve, frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

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
from systemvm.management.public_certificates.remarks import EVENT
from systemvm.management.public_certificates.service import PublicCertificates
from systemvm.management.state import events, instances, secrets, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.public_certificates import Source
from systemvm.management.state.status import InstanceType
from systemvm.rpc.core.errors import RpcError
from systemvm.service.periodic import Periodic
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.console import CONSOLE_CHALLENGE, AcmeChallenge, ConsoleChallenges
from systemvm.wire.role import Role
from systemvm.wire.vm_name import VmName

INTERVAL_S = 900.0
ORDER_DEADLINE = timedelta(minutes=10)
FIRST_RETRY = timedelta(minutes=15)
LAST_RETRY = timedelta(hours=24)
#: A certificate is renewed when this part of its life is left.
RENEW_LEFT = 1 / 3


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


@frozen
class Wanted:
    """A name that needs a certificate now, and the console proxies that it leads to."""

    host: str
    directory_url: str
    contact: str
    proxies: tuple[str, ...]


@frozen
class _Failures:
    """How often an order failed, and when it is tried again."""

    count: int
    again: datetime


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
        converse: Converse | None = None,
        in_thread: Callable[..., Any] = deferToThread,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._database = database
        self._agents = agents
        self._seal = seal
        self._certificates = certificates
        self._converse = converse or _converse
        self._in_thread = in_thread
        self._uniform = uniform
        self._failures: dict[str, _Failures] = {}
        self._periodic = Periodic(clock, self.run, INTERVAL_S, what="order certificates")

    def start(self) -> None:
        self._periodic.start(now=True)

    def stop(self) -> None:
        self._periodic.stop()

    def changed(self) -> None:
        """Look at once: a setting changed, and what failed before can succeed now."""
        self._failures.clear()
        self._periodic.run_soon()

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
        for wanted in await self._database.read(self._wanted, self._agents.up(Role.CPVM)):
            failures = self._failures.get(wanted.host)
            if failures is not None and sites.now() < failures.again:
                continue
            try:
                await self._order(wanted)
            except (AcmeError, NotTakenError, PublicCertificateError) as error:
                await self._failed(wanted.host, error.message, error.hint)
            except RpcError as error:
                await self._failed(
                    wanted.host, f"console proxy cannot answer the challenge: {error.message}", ""
                )
            else:
                self._failures.pop(wanted.host, None)

    def _wanted(self, connection: Connection, up: Sequence[str]) -> list[Wanted]:
        sites, names = self._certificates.sites, {VmName(name) for name in up}
        found: dict[str, Wanted] = {}
        for zone in zones.list_zones(connection):
            of_zone = sites.names(zone.name)
            if not of_zone.acme_directory or not of_zone.console:
                continue
            for vm in instances.list_system(connection, zone.id):
                if vm.type is not InstanceType.CONSOLE_PROXY or VmName(vm.instance_name) not in names:
                    continue
                address = _public_address(connection, vm.id)
                if address is None:
                    continue
                host = PublicEndpoint("https", of_zone.console, 443).at(ip_address(address)).host
                wanted = found.get(host) or Wanted(host, of_zone.acme_directory, of_zone.acme_contact, ())
                found[host] = evolve(wanted, proxies=(*wanted.proxies, vm.instance_name))
        return [each for each in found.values() if self._is_due(each.host)]

    def _is_due(self, host: str) -> bool:
        sites = self._certificates.sites
        found = sites.certificate_of(host)
        if found is None:
            return True
        if found.row.source != Source.ACME.value:
            return False  # the operator's own comes first
        left = found.row.not_after - sites.now()
        return left < (found.row.not_after - found.not_before) * RENEW_LEFT

    async def _order(self, wanted: Wanted) -> None:
        account = await self._database.run(self._account, wanted.directory_url)
        talk = self._converse(wanted.directory_url, account, wanted.contact, None)
        registered = await self._in_thread(talk.open)
        if registered != account:
            await self._database.run(self._keep, wanted.directory_url, registered)
        order = await self._in_thread(talk.order, wanted.host)
        try:
            await self._answer(wanted.proxies, order.challenges)
            now = self._certificates.sites.now()
            chain_pem = await self._in_thread(talk.finish, order, now + ORDER_DEADLINE)
        finally:
            await self._withdraw(wanted.proxies)
        checked = check(chain_pem, order.key_pem, [], [], self._certificates.sites.now(), needs_root=False)
        stored = await self._certificates.put(checked, wanted.host, Source.ACME, None)
        await self._certificates.spread(stored.row.id, stored.before_id)
        self._log.info("{host} has a certificate of {url}", host=wanted.host, url=wanted.directory_url)

    async def _answer(self, proxies: Sequence[str], challenges: list[AcmeChallenge]) -> None:
        if not challenges:
            return
        for name in proxies:
            peer = self._agents.peer(name)
            if peer is not None:
                await peer.call(CONSOLE_CHALLENGE, ConsoleChallenges(challenges), result=Acknowledgement)

    async def _withdraw(self, proxies: Sequence[str]) -> None:
        for name in proxies:
            peer = self._agents.peer(name)
            try:
                if peer is not None:
                    await peer.call(CONSOLE_CHALLENGE, ConsoleChallenges([]), result=Acknowledgement)
            except RpcError as error:
                self._log.info("{name} forgets its challenge later: {error}", name=name, error=error)

    async def _failed(self, host: str, message: str, hint: str) -> None:
        before = self._failures.get(host)
        count = 1 if before is None else before.count + 1
        wait = min(LAST_RETRY, FIRST_RETRY * 2 ** min(count - 1, 10)) * self._uniform(0.9, 1.0)
        self._failures[host] = _Failures(count, self._certificates.sites.now() + wait)
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


def _public_address(connection: Connection, vm_id: int) -> str | None:
    nic = instances.outside_nic(instances.nics_of(connection, vm_id))
    return None if nic is None else nic.address
