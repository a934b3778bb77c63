# SPDX-License-Identifier: Apache-2.0
"""The agent's parts together: identity, dialer, methods, local socket, role, and its status for systemd."""

from __future__ import annotations

import importlib
import inspect
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from systemvm.guest import boot_argument_source, local_socket, metrics_port
from systemvm.guest.agent_methods import AgentMethods, ConnectionState
from systemvm.guest.boot_argument_error import boot_argument_error
from systemvm.guest.check import management_servers
from systemvm.guest.context import AgentContext
from systemvm.guest.health import HealthSource
from systemvm.guest.identity import SIGN_DEADLINE_S, AgentIdentity
from systemvm.guest.paths import GuestPaths
from systemvm.guest.renewal import Renewal
from systemvm.guest.version import VERSION
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.dialer import Dialer
from systemvm.service.metrics import Metric, MetricKind, counter, gauge
from systemvm.service.systemd_notifier import SystemdNotifier, feed_watchdog
from systemvm.wire import protocol
from systemvm.wire.agent import HELLO, PING, RENEW, Capability, Hello, Ping, Pong, Welcome
from systemvm.wire.role import Role

#: The roles' modules by name: this package is in both appliances and imports neither role.
ROLE_MODULES = {Role.SSVM: "systemvm.ssvm.agent.role", Role.CPVM: "systemvm.cpvm.role"}
HELLO_DEADLINE_S = 20.0
_INSTANCE = uuid.uuid4().hex  # of this process
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@frozen
class AgentSettings:
    """The settings of one agent, read once at its start."""

    paths: GuestPaths
    boot: dict[str, str]
    image: dict[str, str]
    name: str
    role: Role
    hosts: list[tuple[str, int]]
    role_module: str

    @classmethod
    def read(cls, paths: GuestPaths, role_module: str | None = None) -> AgentSettings:
        """Read the settings.

        Raises: BootError when a boot argument is missing or wrong.
        """
        boot = boot_argument_source.read_stored(paths)
        role = boot_argument_source.role_of(boot, paths)
        hosts = management_servers(boot)
        if not hosts:
            raise boot_argument_error(
                "boot argument host= or port= is missing", "set host=169.254.0.1 port=8250"
            )
        return cls(
            paths=paths,
            boot=boot,
            image=boot_argument_source.image_facts(paths),
            name=boot_argument_source.name_of(boot),
            role=role,
            hosts=hosts,
            role_module=role_module or ROLE_MODULES[role],
        )

    def hello(self, protocol_version: int, capabilities: Iterable[Capability] = ()) -> Hello:
        return Hello(
            protocol_version=protocol_version,
            name=self.name,
            role=self.role.value,
            agent_version=VERSION,
            image_version=self.image.get("version", ""),
            image_sha256=self.image.get("sha256", ""),
            boot_id=_BOOT_ID.read_text().strip(),
            clock_unix_s=time.time(),
            instance=_INSTANCE,
            capabilities=[each.value for each in capabilities],
            host_keys=[
                " ".join(path.read_text().split()[:2])
                for path in sorted(self.paths.this_start.glob("ssh_host_*_key.pub"))
            ],
        )


class AgentService:
    """Starts the agent, serves while the VM runs, and stops; a lost daemon does not end it."""

    def __init__(
        self, reactor: Any, settings: AgentSettings, sockets: dict[str, int], environment: Mapping[str, str]
    ) -> None:
        self._log = Logger(namespace="systemvm.guest.service")
        self._reactor = reactor
        self._settings = settings
        self._environment = environment
        self._notifier = SystemdNotifier.from_environment(environment)
        self._identity = AgentIdentity(settings.paths, settings.name, settings.role)
        self._text = "starting"
        self._watchdog: LoopingCall | None = None
        self._ping: LoopingCall | None = None
        self._socket: Any = None
        self._metrics: Any = None
        methods = MethodTable(f"systemvm {settings.role.value} agent", VERSION)
        self._dialer = Dialer(
            reactor, self._identity.current, methods, settings.hosts, self._greet, self._set_status
        )
        self._renewal = Renewal(
            reactor,
            self._identity,
            lambda: self._dialer.peer,
            lambda: self._notifier.status(self._status_text()),
        )
        common = AgentMethods(
            reactor,
            settings.paths,
            HealthSource(),
            self._state,
            lambda accept: self._expose(accept),
            self._calls_in_progress,
        )
        common.add_to(methods)
        methods.add(
            RENEW,
            self._renewal.on_request,
            params=None,
            result=None,
            roles=frozenset({Role.MANAGEMENT.value}),
            summary="Generate a new key and have the daemon sign it",
            deadline_s=SIGN_DEADLINE_S + 5.0,
        )
        self.context = AgentContext(
            reactor=reactor,
            paths=settings.paths,
            name=settings.name,
            role=settings.role,
            boot=settings.boot,
            methods=methods,
            sockets=sockets,
            find_peer=lambda: self._dialer.peer,
            metrics=[self._own_metrics],
        )
        self._expose = metrics_port.exposition_of(self.context.metrics)

    async def start(self) -> None:
        """Start listeners, then the dialer, then notify READY, so that later units can rely on them.

        Raises: ValueError when there is no identity.
        """
        self._identity.current()  # fails at once without one
        installed = importlib.import_module(self._settings.role_module).install(self.context)
        if inspect.isawaitable(installed):
            await installed
        self._socket = local_socket.listen(self._reactor, self._settings.paths, self.context.methods)
        self._dialer.start()
        self._metrics = metrics_port.listen(self._reactor, self._settings.boot, self._expose)
        self._watchdog = feed_watchdog(self._reactor, self._notifier, self._environment)
        self._renewal.start()
        self._notifier.ready()
        self._log.info("{name} serves as {role}", name=self._settings.name, role=self._settings.role.value)

    async def stop(self) -> None:
        """Notify systemd, stop the role and disconnect; a failure of one part does not stop the others."""
        self._notifier.stopping()
        for hook in reversed(self.context.on_stop):
            try:
                await hook()
            except Exception:
                self._log.failure("Cannot stop a part of the agent")
        self._stop_pinging()
        self._renewal.stop()
        if self._watchdog is not None:
            self._watchdog.stop()
        await self._dialer.stop()
        if self._socket is not None:
            await self._socket.stopListening()
        if self._metrics is not None:
            await self._metrics.stopListening()

    # ---- the connection ------------------------------------------------------------------------------
    async def _greet(self, peer: Peer) -> None:
        welcome = await self._say_hello(peer, protocol.CURRENT)
        if protocol.OLDEST <= welcome.protocol_version < protocol.CURRENT:
            # an older daemon takes a version that it does not know for "too new"
            welcome = await self._say_hello(peer, welcome.protocol_version)
        skew_s = time.time() - welcome.clock_unix_s
        self._log.info("Up: {host}, clocks differ by {skew_s:.1f} s", host=welcome.host_uuid, skew_s=skew_s)
        self._reactor.callLater(0, self._up, peer, welcome)  # the dialer sets its peer after this

    async def _say_hello(self, peer: Peer, protocol_version: int) -> Welcome:
        hello = self._settings.hello(protocol_version, self.context.find_capabilities())
        welcome: Welcome = await peer.call(HELLO, hello, result=Welcome, deadline_s=HELLO_DEADLINE_S)
        return welcome

    def _up(self, peer: Peer, welcome: Welcome) -> None:
        if peer.closed:
            return
        self._stop_pinging()
        self._ping = LoopingCall(
            lambda: Deferred.fromCoroutine(self._ping_daemon(peer, welcome.ping_interval_s))
        )
        self._ping.clock = self._reactor
        self._ping.start(max(1.0, welcome.ping_interval_s), now=False)
        self.context.connected()
        self._renewal.check()
        for hook in self.context.on_connected:
            self._background(_run_hook(hook, peer), "reconciling")

    async def _ping_daemon(self, peer: Peer, interval_s: float) -> None:
        if peer.closed:
            self._stop_pinging()
            return
        try:
            await peer.call(PING, Ping(time.time()), result=Pong, deadline_s=max(5.0, interval_s))
        except RpcError as error:
            peer.close(f"ping: {error}")

    def _stop_pinging(self) -> None:
        if self._ping is not None and self._ping.running:
            self._ping.stop()
        self._ping = None

    def _background(self, work: Any, what: str) -> None:
        """Run without waiting; a failure is logged, and the next connection tries again."""

        def failed(failure: Any) -> None:
            self._log.warn("Failed {what}: {error}", what=what, error=str(failure.value))

        Deferred.fromCoroutine(work).addErrback(failed)

    # ---- status --------------------------------------------------------------------------------------
    def _state(self) -> ConnectionState:
        connected = self._dialer.peer is not None
        return ConnectionState(self._status_text(), connected, max(0, self._dialer.connections - 1))

    def _own_metrics(self) -> list[Metric]:
        state = self._state()
        return [
            Metric("systemvm_agent_info", "The agent's version", MetricKind.GAUGE, {VERSION: 1.0}, "version"),
            gauge("systemvm_agent_connected", "1 while the daemon is connected", state.connected),
            counter(
                "systemvm_agent_reconnects", "Connections to the daemon after the first", state.reconnects
            ),
            gauge("systemvm_agent_calls", "Calls of the daemon in progress", self._calls_in_progress()),
        ]

    def _calls_in_progress(self) -> int:
        return 0 if self._dialer.peer is None else self._dialer.peer.calls_in_progress

    def _set_status(self, text: str) -> None:
        if self._dialer.peer is not None:
            self._text = f"Up, {text}"
        elif self._dialer.connections:
            self._text = f"Disconnected, {text}"
        else:
            self._text = f"Enrolling, {text}"
        self._notifier.status(self._status_text())

    def _status_text(self) -> str:
        return "; ".join(part for part in (self._text, self._renewal.problem) if part)


async def _run_hook(hook: Any, peer: Peer) -> None:
    await hook(peer)
