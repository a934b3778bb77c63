# SPDX-License-Identifier: Apache-2.0
"""The agent as a process, its files below a temporary root, against a real listener with a real CA."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from cryptography import x509
from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.protocol import DatagramProtocol, Factory, ProcessProtocol, Protocol

from present import present
from systemvm.guest.boot_argument_source import store
from systemvm.guest.paths import GuestPaths
from systemvm.management.pki.authority import CertificateAuthority
from systemvm.management.pki.control import ControlAuthority
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, REFUSED, RpcError
from systemvm.rpc.core.method import Call, Caller, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.http.unix import unix_call
from systemvm.rpc.stream.listener import listen
from systemvm.wire import agent as wire
from systemvm.wire import boot_arguments, protocol
from systemvm.wire.boot_failure import BootFailure
from systemvm.wire.role import Role

pytestmark = pytest.mark.timeout(60)

AGENTS = Path(__file__).resolve().parents[2] / "agents"
NAME = "s-1-VM"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
WAIT_S = 20.0

ROLE_MODULE = """
from systemvm.wire.acknowledgement import Acknowledgement


def install(context):
    async def greet(call, params):
        return Acknowledgement()
    async def reconcile(peer):
        seen = {"name": context.name, "sockets": sorted(context.sockets)}
        await context.call_daemon("test.reconcile", seen)
    async def stop():
        (context.paths.root / "stopped").write_text("yes")
    context.methods.add(
        "test.greet", greet, params=None, result=Acknowledgement, roles=frozenset({"management"})
    )
    context.on_connected.append(reconcile)
    context.on_stop.append(stop)
"""


async def soon(waiting: Deferred[Any], what: str) -> Any:
    """The next thing of a queue, or a failure that names it."""

    def late(result: object, timeout_s: float) -> object:
        raise AssertionError(f"no {what} in {timeout_s:g} s")

    return await waiting.addTimeout(WAIT_S, reactor, onTimeoutCancel=late)


class Daemon:
    """The other end of the channel: a real listener, and a record of what agents do."""

    def __init__(self, authority: ControlAuthority) -> None:
        self.authority = authority
        self.hellos: DeferredQueue[tuple[Peer, wire.Hello]] = DeferredQueue()
        self.lost: DeferredQueue[str] = DeferredQueue()
        self.signed: DeferredQueue[str] = DeferredQueue()
        self.pings: DeferredQueue[float] = DeferredQueue()
        self.reconciled: DeferredQueue[dict[str, Any]] = DeferredQueue()
        self.peers: list[Peer] = []
        self.port_number = 0
        self.refuses = ""  # why nothing is signed
        self.speaks = protocol.CURRENT  # the newest version that it knows
        self._listening: Any = None
        self._identity = authority.daemon_identity("test")
        self.methods = MethodTable("daemon", "0")
        agents = frozenset({"ssvm"})
        self.methods.add(wire.HELLO, self._hello, params=wire.Hello, result=wire.Welcome, roles=agents)
        self.methods.add(wire.PING, self._ping, params=wire.Ping, result=wire.Pong, roles=agents)
        self.methods.add(
            wire.SIGN, self._sign, params=wire.SigningRequest, result=wire.SignedCertificate, roles=agents
        )
        self.methods.add("test.reconcile", self._reconcile, params=dict[str, Any], result=None, roles=agents)

    async def start(self) -> None:
        self._listening = await listen(
            reactor,
            lambda: self._identity,
            self.methods,
            interface="127.0.0.1",
            port=self.port_number,
            known=lambda caller: None,
            on_connected=self.peers.append,
            on_lost=lambda peer, why: self.lost.put(why),
        )
        self.port_number = self._listening.getHost().port

    async def stop(self) -> None:
        """As when the daemon is killed: the port closes, and every connection with it."""
        await self._listening.stopListening()
        for peer in self.peers:
            peer.close("the daemon ends")
        self.peers.clear()

    async def _hello(self, call: Call, hello: wire.Hello) -> wire.Welcome:
        assert call.peer is not None
        self.hellos.put((cast(Peer, call.peer), hello))
        return wire.Welcome(min(self.speaks, hello.protocol_version), "host-1", time.time(), 1.0)

    async def _ping(self, call: Call, ping: wire.Ping) -> wire.Pong:
        self.pings.put(ping.sent_unix_s)
        return wire.Pong(ping.sent_unix_s, time.time())

    async def _sign(self, call: Call, request: wire.SigningRequest) -> wire.SignedCertificate:
        if self.refuses:
            raise RpcError.refused("signing-refused", self.refuses)
        certificate_pem = self.authority.sign(request.csr_pem, call.caller.name, Role(call.caller.role))
        self.signed.put(certificate_pem)
        return wire.SignedCertificate(certificate_pem, self.authority.ca_pem.decode())

    async def _reconcile(self, call: Call, params: dict[str, Any]) -> None:
        self.reconciled.put(params)


class Notices(DatagramProtocol):
    """The service manager's end of $NOTIFY_SOCKET."""

    def __init__(self) -> None:
        self.heard: DeferredQueue[str] = DeferredQueue()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.heard.put(datagram.decode())

    async def until(self, wanted: Callable[[str], bool], what: str) -> str:
        while True:
            text: str = await soon(self.heard.get(), what)
            if wanted(text):
                return text


class AgentProcess(ProcessProtocol):
    """One agent, its output, and its end."""

    def __init__(self) -> None:
        self.output = b""
        self.ended: Deferred[int | None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.output += data

    errReceived = outReceived

    def processEnded(self, reason: Any) -> None:
        self.ended.callback(reason.value.exitCode)


class Machine:
    """A system VM's files below a temporary root, and the agent started on them."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.root = top / "root"
        self.credentials = top / "credentials"
        self.paths = GuestPaths(self.root, self.credentials)
        self.notices = Notices()
        self._notify_port = cast(Any, reactor).listenUNIXDatagram(str(top / "notify"), self.notices)
        self._agents: list[AgentProcess] = []
        self.paths.run.mkdir(parents=True)
        self.paths.this_start.mkdir(parents=True)
        self.paths.ssh_host_key.with_suffix(".pub").write_text("ssh-ed25519 AAAA root@s-1-VM\n")
        self.paths.image_json.parent.mkdir(parents=True)
        self.paths.image_json.write_text('{"version": "7", "sha256": "ab", "role": "ssvm", "built": "now"}')
        self.credentials.mkdir()
        (top / "guest_test_role.py").write_text(ROLE_MODULE)

    def prepare(self, authority: ControlAuthority, port: int) -> None:
        text = f"type=secstorage name={NAME} host=127.0.0.1 port={port} eth0ip=169.254.1.1"
        store(text, boot_arguments.parse(text), self.paths)
        bundle = authority.bootstrap(NAME, Role.SSVM).to_pem_bundle()
        (self.credentials / boot_arguments.IDENTITY_CREDENTIAL).write_bytes(bundle)

    def start(self, *, ignoring_interrupts: bool = False) -> AgentProcess:
        agent = AgentProcess()
        command = [sys.executable, "-m", "systemvm.guest.agent", "--root", str(self.root)]
        command += ["--role-module", "guest_test_role"]
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{AGENTS}:{self.top}",
            "CREDENTIALS_DIRECTORY": str(self.credentials),
            "NOTIFY_SOCKET": str(self.top / "notify"),
            "WATCHDOG_USEC": "1000000",
        }
        if ignoring_interrupts:  # as a shell without job control starts `PROGRAM &`
            command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
        reactor.spawnProcess(agent, shutil.which(command[0]) or "", command, env=environment)
        self._agents.append(agent)
        return agent

    async def close(self) -> None:
        for agent in self._agents:
            if not agent.ended.called:
                present(agent.transport).signalProcess("KILL")
            await agent.ended
        await self._notify_port.stopListening()


Scene = tuple[Daemon, Machine]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    daemon = Daemon(ControlAuthority(CertificateAuthority.create("test")))
    machine = Machine(tmp_path)

    async def begin() -> None:
        await daemon.start()
        machine.prepare(daemon.authority, daemon.port_number)

    async def end() -> None:
        await machine.close()
        await daemon.stop()

    pytest_twisted.blockon(Deferred.fromCoroutine(begin()))
    yield daemon, machine
    pytest_twisted.blockon(Deferred.fromCoroutine(end()))


@pytest_twisted.ensureDeferred
async def test_hello_names_the_machine_and_the_unit_is_ready(scene: Scene) -> None:
    daemon, machine = scene
    machine.start()
    await machine.notices.until(lambda text: text.startswith("READY=1"), "READY")
    peer, hello = await soon(daemon.hellos.get(), "hello")
    assert peer.caller == Caller(NAME, "ssvm")
    assert (hello.name, hello.role, hello.protocol_version) == (NAME, "ssvm", protocol.CURRENT)
    assert (hello.image_version, hello.image_sha256) == ("7", "ab")
    assert hello.host_keys == ["ssh-ed25519 AAAA"]
    assert hello.boot_id == BOOT_ID
    assert abs(hello.clock_unix_s - time.time()) < 5
    await machine.notices.until(lambda text: text.startswith("STATUS=Up"), "STATUS=Up")


@pytest_twisted.ensureDeferred
async def test_an_older_daemon_gets_hello_again_in_its_version(scene: Scene) -> None:
    daemon, machine = scene
    daemon.speaks = 2
    machine.start()
    first = await soon(daemon.hellos.get(), "hello")
    second = await soon(daemon.hellos.get(), "hello again")
    assert first[0] is second[0], "by the same connection"
    assert [hello.protocol_version for _, hello in (first, second)] == [protocol.CURRENT, 2]
    await machine.notices.until(lambda text: text.startswith("STATUS=Up"), "STATUS=Up")
    await machine.notices.until(lambda text: text.startswith("WATCHDOG=1"), "sign of life")
    await soon(daemon.pings.get(), "ping")


@pytest_twisted.ensureDeferred
async def test_ping_health_and_methods_of_the_role_are_answered(scene: Scene) -> None:
    daemon, machine = scene
    agent = machine.start()
    peer, _ = await soon(daemon.hellos.get(), "hello")
    pong = await peer.call(wire.PING, wire.Ping(5.0), result=wire.Pong)
    assert pong.sent_unix_s == 5.0
    health = await peer.call(wire.HEALTH, result=wire.Health)
    assert 10 << 20 < health.agent_rss_bytes <= 60 << 20, agent.output.decode()
    assert health.memory_total_bytes > health.memory_available_bytes > 0
    assert health.uptime_s > 0
    assert health.reconnects == 0
    assert await peer.call("test.greet") == {"ok": True}
    described = await peer.call("rpc.discover")
    assert {wire.PING, wire.HEALTH, wire.CHECK, "test.greet"} <= {m["name"] for m in described["methods"]}
    with pytest.raises(RpcError) as nothing:
        await peer.call("no.such.method")
    assert nothing.value.code == METHOD_NOT_FOUND
    reconciled = await soon(daemon.reconciled.get(), "reconcile call")
    assert reconciled == {"name": NAME, "sockets": []}


@pytest_twisted.ensureDeferred
async def test_a_lost_daemon_is_dialled_again_with_the_agents_own_key(scene: Scene) -> None:
    daemon, machine = scene
    agent = machine.start()
    first, _ = await soon(daemon.hellos.get(), "hello")
    signed = x509.load_pem_x509_certificate((await soon(daemon.signed.get(), "signing request")).encode())
    assert not daemon.hellos.pending
    await machine.notices.until(lambda text: "STATUS=Up" in text, "STATUS=Up")
    read_stored = machine.paths.own_identity
    await first.call(wire.PING, wire.Ping(0.0))  # its renewal's answer has been read before this
    assert stat.S_IMODE(read_stored.stat().st_mode) == 0o600
    (
        machine.credentials / boot_arguments.IDENTITY_CREDENTIAL
    ).unlink()  # what comes next is not the bootstrap identity

    await daemon.stop()
    await machine.notices.until(lambda text: "STATUS=Disconnected" in text, "STATUS=Disconnected")
    await daemon.start()
    peer, _ = await soon(daemon.hellos.get(), "second hello")
    assert peer.caller == Caller(NAME, "ssvm")
    await machine.notices.until(lambda text: "STATUS=Up" in text, "STATUS=Up again")
    health = await peer.call(wire.HEALTH, result=wire.Health)
    assert health.reconnects == 1
    assert not agent.ended.called
    assert x509.load_pem_x509_certificate(read_stored.read_bytes()).serial_number == signed.serial_number
    assert not daemon.signed.pending, "a certificate with all its life left was renewed"


@pytest_twisted.ensureDeferred
async def test_a_refused_signing_request_is_reported_and_the_agent_stays_up(scene: Scene) -> None:
    daemon, machine = scene
    daemon.refuses = "not today"
    machine.start()
    told = await machine.notices.until(lambda text: "cannot renew the certificate" in text, "status")
    assert "not today; next attempt in " in told
    peer, _ = await soon(daemon.hellos.get(), "hello")
    assert not peer.closed
    daemon.refuses = ""
    # what the daemon asks for when the CA is replaced, or an operator does
    await peer.call(wire.RENEW, deadline_s=WAIT_S)
    await soon(daemon.signed.get(), "signature")
    await machine.notices.until(lambda text: text.startswith("STATUS=Up") and "renew" not in text, "Up")


@pytest_twisted.ensureDeferred
async def test_the_unit_is_ready_without_a_daemon_and_retries(scene: Scene) -> None:
    daemon, machine = scene
    await daemon.stop()
    agent = machine.start()
    await machine.notices.until(lambda text: text.startswith("READY=1"), "READY")
    await machine.notices.until(
        lambda text: "Enrolling" in text and "refused" in text, "the reason in STATUS"
    )
    await daemon.start()
    await soon(daemon.hellos.get(), "hello")
    assert not agent.ended.called


@pytest_twisted.ensureDeferred
async def test_a_daemon_of_another_ca_gets_no_hello(scene: Scene) -> None:
    daemon, machine = scene
    agent = machine.start()
    await soon(daemon.hellos.get(), "hello")
    await daemon.stop()
    stranger = Daemon(ControlAuthority(CertificateAuthority.create("stranger")))
    stranger.port_number = daemon.port_number
    await stranger.start()
    try:
        await machine.notices.until(
            lambda text: "STATUS=Disconnected" in text and "wrong-ca" in text, "the failed check"
        )
        assert not stranger.hellos.pending
        assert not stranger.peers
        assert not agent.ended.called
    finally:
        await stranger.stop()
    await daemon.start()
    await soon(daemon.hellos.get(), "hello to the right one")


@pytest.mark.parametrize("number", ["TERM", "INT"])
@pytest_twisted.ensureDeferred
async def test_a_signal_stops_it_cleanly(scene: Scene, number: str) -> None:
    """SIGINT too, though it was inherited ignored."""
    daemon, machine = scene
    agent = machine.start(ignoring_interrupts=True)
    await soon(daemon.hellos.get(), "hello")
    present(agent.transport).signalProcess(number)
    await machine.notices.until(lambda text: text == "STOPPING=1", "STOPPING")
    assert await soon(agent.ended, "end") == 0, agent.output.decode()
    assert (machine.root / "stopped").read_text() == "yes"
    assert not machine.paths.agent_socket.exists()
    assert "Traceback" not in agent.output.decode()
    await soon(daemon.lost.get(), "end of the connection")


@pytest_twisted.ensureDeferred
async def test_local_socket_reports_the_agents_state_to_root(scene: Scene) -> None:
    daemon, machine = scene
    machine.start()
    await machine.notices.until(lambda text: "STATUS=Up" in text, "STATUS=Up")
    path = machine.paths.agent_socket
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    state = await threads.deferToThread(unix_call, path, "agent.state", {})
    assert state["connected"] is True
    assert state["text"].startswith("Up")
    del daemon


@pytest_twisted.ensureDeferred
async def test_check_comes_from_the_helper(scene: Scene) -> None:
    daemon, machine = scene
    machine.start()
    peer, _ = await soon(daemon.hellos.get(), "hello")
    with pytest.raises(RpcError) as unavailable:
        await peer.call(wire.CHECK)
    assert unavailable.value.code == REFUSED
    assert "systemvm-check.socket" in unavailable.value.hint

    helper = cast(Any, reactor).listenUNIX(str(machine.paths.check_socket), CheckHelper(machine))
    try:
        report = await peer.call(wire.CHECK, result=wire.CheckReport, deadline_s=30)
    finally:
        await helper.stopListening()
    by_name = {step.name: step for step in report.steps}
    assert by_name["management"].status == "good"
    assert by_name["agent"].status == "good"
    assert by_name["agent"].text.startswith("Agent process is running: Up")
    assert by_name["resolve"].status == "error"  # there is no resolv.conf below the root


class CheckHelper(Factory):
    """What systemvm-check.socket does: one process a connection, its output is the answer."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def buildProtocol(self, addr: Any) -> Protocol:
        root = str(self.machine.root)

        class Connection(Protocol):
            def connectionMade(self) -> None:
                def run() -> bytes:
                    command = [sys.executable, "-m", "systemvm.guest.check_main", "--json", "--root", root]
                    return subprocess.run(
                        command, cwd=AGENTS, stdout=subprocess.PIPE, timeout=30, check=True
                    ).stdout

                def answer(output: bytes) -> None:
                    present(self.transport).write(output)
                    present(self.transport).loseConnection()

                threads.deferToThread(run).addCallback(answer)

        return Connection()


@pytest_twisted.ensureDeferred
async def test_an_agent_without_identity_or_boot_arguments_exits_with_the_reason(scene: Scene) -> None:
    _, machine = scene
    (machine.credentials / boot_arguments.IDENTITY_CREDENTIAL).unlink()
    agent = machine.start()
    assert await soon(agent.ended, "end") == BootFailure.AGENT_CANNOT_START.exit_code
    assert f"REASON={BootFailure.AGENT_CANNOT_START.value}" in agent.output.decode()
    assert "identity is missing: neither the systemd credential systemvm.identity" in agent.output.decode()

    machine.paths.cmd_line_json.unlink()
    agent = machine.start()
    assert await soon(agent.ended, "end") == BootFailure.NO_BOOT_ARGUMENTS.exit_code
    assert "cmd_line.json is missing" in agent.output.decode()
    assert "systemctl status systemvm-preinit" in agent.output.decode()


def test_inherited_sockets_come_by_name(tmp_path: Path) -> None:
    program = (
        "import os\n"
        "from systemvm.guest.inherited_sockets import take_sockets\n"
        "sockets = take_sockets(os.environ, os.getpid())\n"
        "assert 'LISTEN_FDS' not in os.environ\n"
        "assert not os.get_inheritable(3)\n"
        "print(sockets)\n"
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        shell = ["bash", "-c", 'exec 3<&"$1"; export LISTEN_PID=$$; exec "$2" -c "$3"', "bash"]
        done = subprocess.run(
            [*shell, str(listener.fileno()), sys.executable, program],
            env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "console", "PYTHONPATH": str(AGENTS)},
            pass_fds=[listener.fileno()],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )  # fmt: skip
    assert done.stdout == "{'console': 3}\n", done.stderr
