# SPDX-License-Identifier: Apache-2.0
"""The daemon with its database and control channel, and simulated VMs, in a child process.

usage: control_daemon.py ROOT AGENTS DIRECTORY

Commands on stdin and events on stdout are JSON objects, one on each line. DIRECTORY gets
NAME.ROLE.pem of each VM when it is added: only certificates that this daemon has signed count.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from twisted.internet import asyncioreactor
from twisted.web.http_headers import Headers

asyncioreactor.install()

import treq  # noqa: E402
from OpenSSL import SSL, crypto  # noqa: E402
from twisted.internet import reactor as default_reactor  # noqa: E402
from twisted.internet import stdio  # noqa: E402
from twisted.internet.defer import Deferred  # noqa: E402
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator  # noqa: E402
from twisted.protocols.basic import LineOnlyReceiver  # noqa: E402
from twisted.web.client import Agent as HttpAgent  # noqa: E402
from twisted.web.client import HTTPConnectionPool  # noqa: E402
from twisted.web.iweb import IPolicyForHTTPS  # noqa: E402
from zope.interface import implementer  # noqa: E402

from systemvm.host.layout import Layout  # noqa: E402
from systemvm.host.zone import TrafficType  # noqa: E402
from systemvm.management import config  # noqa: E402
from systemvm.management.control.agent import Agent  # noqa: E402
from systemvm.management.daemon import Daemon  # noqa: E402
from systemvm.management.hypervisors.base import DomainState, DomainStatus  # noqa: E402
from systemvm.management.network_helper import NetworkError  # noqa: E402
from systemvm.management.state import instances  # noqa: E402
from systemvm.management.state.status import InstanceState, InstanceType  # noqa: E402
from systemvm.rpc.tls.identity import Identity  # noqa: E402
from systemvm.service.systemd_notifier import SystemdNotifier  # noqa: E402
from systemvm.wire.agent import HEALTH, Health  # noqa: E402
from systemvm.wire.role import Role  # noqa: E402

reactor: Any = default_reactor
WARM_UP_CALLS = 100


class SimulatedHost:
    """Hypervisor and networks in one: every VM in the database runs."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def adopt(self) -> dict[str, DomainStatus]:
        return {name: self._status(name) for name in self.names}

    def status(self, name: str) -> DomainStatus | None:
        return self._status(name)

    @staticmethod
    def _status(name: str) -> DomainStatus:
        return DomainStatus(name, name, DomainState.RUNNING, pid=1)

    def on_exit(self, callback: Any) -> None:
        """Do nothing: no VM ends."""

    async def ensure(self) -> dict[str, NetworkError]:
        """Do nothing: there is no network."""
        return {}

    async def admit_consoles(self, addresses: Iterable[IPv4Address]) -> None:
        """Do nothing: there is no firewall."""

    async def renew_screens(self) -> None:
        """Do nothing: no VM has a screen."""

    async def close(self) -> None:
        """Do nothing: no resource is used."""


@implementer(IPolicyForHTTPS)
class OneIdentity:
    """HTTPS with the daemon's kind of checks: TLS 1.3, a client certificate, one CA."""

    def __init__(self, identity: Identity) -> None:
        self._context = SSL.Context(SSL.TLS_METHOD)
        self._context.set_min_proto_version(SSL.TLS1_3_VERSION)
        self._context.set_verify(SSL.VERIFY_PEER)
        pem = crypto.FILETYPE_PEM
        self._context.use_privatekey(crypto.load_privatekey(pem, identity.private_key_pem))
        self._context.use_certificate(crypto.load_certificate(pem, identity.certificate_pem))
        store = self._context.get_cert_store()
        store.add_cert(crypto.load_certificate(pem, identity.ca_pem))

    def creatorForNetloc(self, hostname: bytes, port: int) -> OneIdentity:  # type: ignore[override]
        return self

    def clientConnectionForTLS(self, tls_protocol: object) -> SSL.Connection:
        return SSL.Connection(self._context, None)


implementer(IOpenSSLClientConnectionCreator)(OneIdentity)


class Commands(LineOnlyReceiver):
    """`{"measure": calls, "at_most_s": seconds, "https": [ports], "identity": path, "into": path}`."""

    delimiter = b"\n"

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def lineReceived(self, line: bytes) -> None:
        command = json.loads(line)
        measuring = Deferred.fromCoroutine(measure(self._daemon, command))
        measuring.addErrback(lambda failure: report(error=failure.getTraceback()))


async def measure(daemon: Daemon, command: dict[str, Any]) -> None:
    """Call `agent.health` of one agent after another, alternately in both ways."""
    pool = HTTPConnectionPool(reactor, persistent=True)
    https = treq.client.HTTPClient(HttpAgent(reactor, OneIdentity(_identity(command["identity"])), pool=pool))
    names = daemon.directory.up(Role.SSVM) + daemon.directory.up(Role.CPVM)
    urls = [f"https://127.0.0.1:{port}/rpc" for port in command["https"]]
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": HEALTH, "request_id": "r" * 16}).encode()
    until_s = time.monotonic() + command["at_most_s"]
    took: dict[str, list[float]] = {"ours": [], "https": []}
    for turn in range(command["measure"] + WARM_UP_CALLS):
        if time.monotonic() > until_s and took["ours"]:
            break
        began_s = time.perf_counter()
        await daemon.directory.call(random.choice(names), HEALTH, result=Health)
        ours_s = time.perf_counter()
        response = await https.post(
            urls[turn % len(urls)], data=body, headers=Headers({"content-type": ["application/json"]})
        )
        health = (await treq.json_content(response))["result"]
        if health["uptime_s"] != 1.0:
            raise ValueError("unexpected response of the HTTPS server")
        if turn >= WARM_UP_CALLS:
            took["ours"].append(ours_s - began_s)
            took["https"].append(time.perf_counter() - ours_s)
    await pool.closeCachedConnections()
    _write(command["into"], took)  # too long for a pipe, whose reader must not block this process
    report(measured=len(took["ours"]))


def _identity(path: str) -> Identity:
    return Identity.from_pem_bundle(Path(path).read_bytes())


def _write(path: str, took: dict[str, list[float]]) -> None:
    Path(path).write_text(json.dumps(took))


def report(**event: Any) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


async def run(root: Path, agents: int, identities: Path) -> None:
    began_s = time.monotonic()
    configuration = config.read(Layout(root))
    host = SimulatedHost()
    fakes: dict[str, Any] = {"hypervisor": host, "networks": host}
    daemon = Daemon(reactor, configuration, SystemdNotifier(None), **fakes)

    def fill(connection: Any) -> list[str]:
        found = [vm.instance_name for vm in instances.list_system(connection)]
        for number in range(len(found), agents):
            kind = InstanceType.CONSOLE_PROXY if number % 2 else InstanceType.SECONDARY_STORAGE
            vm = instances.create(
                connection,
                kind,
                account_id=1,
                zone_id=1,
                host_id=daemon.host.id,
                state=InstanceState.RUNNING,
            )
            # the certificate of a CPVM contains its public address
            instances.add_nic(
                connection,
                vm_id=vm.id,
                device=2,
                traffic_type=TrafficType.PUBLIC.value,
                bridge="none",
                mac=f"02:00:00:00:{number >> 8:02x}:{number & 0xFF:02x}",
                address=str(IPv4Address("203.0.113.1") + number % 250),
            )
            found.append(vm.instance_name)
            role = Role.CPVM if number % 2 else Role.SSVM
            bundle = daemon.authority.bootstrap(vm.instance_name, role).to_pem_bundle()
            (identities / f"{vm.instance_name}.{role.value}.pem").write_bytes(bundle)
        return found

    host.names = daemon.database.run_now(fill)
    ups: set[str] = set()

    async def up(agent: Agent) -> None:
        ups.add(agent.name)
        if len(ups) == agents:
            report(all_up_s=time.monotonic() - began_s, cpu_s=time.process_time())

    daemon.directory.on_up(up)
    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(daemon.stop()))
    await daemon.start()
    stdio.StandardIO(Commands(daemon))
    report(names=host.names, listening_s=time.monotonic() - began_s)


def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    root, agents, identities = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])

    def failed(failure: Any) -> None:
        report(error=failure.getTraceback())
        reactor.stop()

    reactor.callLater(0, lambda: Deferred.fromCoroutine(run(root, agents, identities)).addErrback(failed))
    reactor.run()


if __name__ == "__main__":
    main()
