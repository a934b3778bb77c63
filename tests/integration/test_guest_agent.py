# SPDX-License-Identifier: Apache-2.0
"""The agent process: methods, signals, local socket, check helper and start failures."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor, threads
from twisted.internet.protocol import Factory, Protocol

from integration.agent_lab.agent_process import AGENTS, NAME, Machine, Setup, setup
from integration.agent_lab.fake_daemon import soon
from present import present
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, REFUSED, RpcError
from systemvm.rpc.http.unix import unix_call
from systemvm.wire import agent as wire
from systemvm.wire import boot_arguments
from systemvm.wire.boot_failure import BootFailure

__all__ = ["setup"]

pytestmark = pytest.mark.timeout(60)


class CheckHelper(Factory):
    """The service of systemvm-check.socket: one process for each connection, whose output is the response."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def buildProtocol(self, addr: Any) -> Protocol:
        root = str(self.machine.root)

        class Connection(Protocol):
            def connectionMade(self) -> None:
                def run() -> bytes:
                    command = [sys.executable, "-m", "systemvm.guest.check_main", "--json", "--root", root]
                    return subprocess.run(
                        command, cwd=AGENTS, stdout=subprocess.PIPE, timeout=240, check=True
                    ).stdout

                def answer(output: bytes) -> None:
                    present(self.transport).write(output)
                    present(self.transport).loseConnection()

                threads.deferToThread(run).addCallback(answer)

        return Connection()


@pytest_twisted.ensureDeferred
async def test_the_methods_of_the_agent_and_of_its_role_are_called(setup: Setup) -> None:
    daemon, machine = setup
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
    with pytest.raises(RpcError) as unknown:
        await peer.call("no.such.method")
    assert unknown.value.code == METHOD_NOT_FOUND
    reconciled = await soon(daemon.reconciled.get(), "reconcile call")
    assert reconciled == {"name": NAME, "sockets": []}


@pytest.mark.parametrize("number", ["TERM", "INT"])
@pytest_twisted.ensureDeferred
async def test_a_signal_stops_the_agent_cleanly(setup: Setup, number: str) -> None:
    """SIGINT stops it even if it was ignored at exec."""
    daemon, machine = setup
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
async def test_the_local_socket_returns_the_state_to_root(setup: Setup) -> None:
    _, machine = setup
    machine.start()
    await machine.notices.until(lambda text: "STATUS=Up" in text, "STATUS=Up")
    path = machine.paths.agent_socket
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    state = await threads.deferToThread(unix_call, path, "agent.state", {})
    assert state["connected"] is True
    assert state["text"].startswith("Up")


@pytest_twisted.ensureDeferred
async def test_check_is_run_by_the_helper(setup: Setup) -> None:
    daemon, machine = setup
    machine.start()
    peer, _ = await soon(daemon.hellos.get(), "hello")
    await machine.notices.until(lambda text: text.startswith("STATUS=Up"), "STATUS=Up")
    with pytest.raises(RpcError) as unavailable:
        await peer.call(wire.CHECK)
    assert unavailable.value.code == REFUSED
    assert "systemvm-check.socket" in unavailable.value.hint

    helper = cast(Any, reactor).listenUNIX(str(machine.paths.check_socket), CheckHelper(machine))
    try:
        report = await peer.call(wire.CHECK, result=wire.CheckReport, deadline_s=240)
    finally:
        await helper.stopListening()
    by_name = {step.name: step for step in report.steps}
    assert by_name["management"].status == "good"
    assert by_name["agent"].status == "good"
    assert by_name["agent"].text.startswith("Agent process is running: Up")
    assert by_name["resolve"].status == "error"  # no resolv.conf below the root


@pytest_twisted.ensureDeferred
async def test_an_agent_without_identity_or_boot_arguments_exits_with_the_reason(setup: Setup) -> None:
    _, machine = setup
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


def test_inherited_sockets_are_found_by_name(tmp_path: Path) -> None:
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
            timeout=120,
            check=False,
        )  # fmt: skip
    assert done.stdout == "{'console': 3}\n", done.stderr
