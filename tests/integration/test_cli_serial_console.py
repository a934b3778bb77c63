# SPDX-License-Identifier: Apache-2.0
"""`systemvm console VM --serial` in a terminal and in a pipe, with a real QEMU."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from attrs import asdict

from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.operator_terminal import ENVIRONMENT, DaemonSocket, OperatorTerminal
from integration.cpvm_lab.serial_machine import SerialMachine

pytestmark = pytest.mark.timeout(180)

CURSOR_QUERY = "\x1b[6n"


class Lab:
    """A console process and a machine; `sessions` are those that the operator got, the newest last."""

    def __init__(self, folder: Path, console: ConsoleProcess, machine: SerialMachine) -> None:
        self.console = console
        self.machine = machine
        self.history = ""
        self.sessions: list[str] = []
        self.daemon = DaemonSocket(folder / "root", console, self._issue)

    def _issue(self, asked: dict[str, Any]) -> str:
        client = asdict(self.machine.client())
        token, session = self.console.issue(self.machine.port, kind="serial", transport_tls=client)
        self.console.order("scrollback", session_id=session, text=self.history)
        self.sessions.append(session)
        return token

    @contextmanager
    def terminal(self, *options: str) -> Iterator[OperatorTerminal]:
        terminal = OperatorTerminal(self.daemon.command("web-1", "--serial", *options))
        try:
            yield terminal
        finally:
            terminal.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("serial")
    console = ConsoleProcess(folder)
    machine = SerialMachine(folder)
    lab = Lab(folder / "d", console, machine)
    yield lab
    lab.daemon.close()
    machine.close()
    log = console.log()
    console.close()
    assert "Traceback" not in log, log


def test_a_terminal_echoes_comes_back_after_a_blip_and_leaves_by_its_key(lab: Lab) -> None:
    lab.history = f"{CURSOR_QUERY}booted\r\nlogin: "
    with lab.terminal() as terminal:
        shown = terminal.expect("login: ")
        assert "Ctrl-] leaves" in shown
        assert CURSOR_QUERY not in shown, "a query of before would be answered into the guest"
        assert terminal.is_raw
        terminal.press("\x03")  # the guest's, and not this program's
        terminal.expect("\x03")
        lab.history += "\x03"
        lab.console.order("scrollback", session_id=lab.sessions[-1], text=lab.history)
        lab.console.order("blip")
        terminal.expect("connection was lost; reconnecting")
        terminal.press("b")
        assert "login" not in terminal.expect("b"), "only what is new is shown again"
        terminal.press("\x1d")
        assert terminal.wait() == 0
        assert terminal.is_as_before
    asked = dict(lab.daemon.asked[-1])
    assert len(asked.pop("token")) >= 16, "a zone can require an additional secret"
    assert asked == {"virtualmachineid": "m-1", "kind": "serial"}


def test_signals_leave_the_terminal_as_it_was(lab: Lab) -> None:
    with lab.terminal("--escape", "^A") as terminal:
        terminal.expect("Ctrl-A leaves")
        terminal.press("\x1d")
        terminal.expect("\x1d")
        terminal.process.send_signal(signal.SIGTSTP)
        terminal.wait_until(lambda: terminal.is_stopped)
        assert terminal.is_as_before
        terminal.process.send_signal(signal.SIGCONT)
        terminal.wait_until(lambda: terminal.is_raw)
        terminal.press("c")
        terminal.expect("c")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.wait() == 128 + signal.SIGTERM
        assert terminal.is_as_before


def test_a_terminal_that_is_closed_ends_the_console(lab: Lab) -> None:
    with lab.terminal() as terminal:
        terminal.expect("leaves")
        terminal.press("e")
        terminal.expect("e")
        terminal.hang_up()
        assert terminal.process.wait() == 128 + signal.SIGHUP
    assert lab.console.order("sessions"), "the session waits for its reconnection, as after a closed window"


def test_an_ended_session_is_explained(lab: Lab) -> None:
    with lab.terminal() as terminal:
        terminal.expect("leaves")
        terminal.press("d")
        terminal.expect("d")
        lab.console.order("end", session_ids=lab.sessions[-1:], reason="closed", code="closed")
        assert terminal.wait() == 1
        assert "console of web-1 has ended: this console was closed" in terminal.text
        assert "hint:" in terminal.text
        assert terminal.is_as_before


def test_a_pipe_is_sent_to_its_end(lab: Lab) -> None:
    lab.history = "before\r\n"
    command = lab.daemon.command("web-1", "--serial", "--quiet-exit", "3")
    done = subprocess.run(command, input=b"uptime", capture_output=True, env=ENVIRONMENT, timeout=120)
    assert (done.returncode, done.stdout) == (0, b"uptime"), done.stderr


def test_a_file_is_sent_and_history_can_be_asked_for(lab: Lab, tmp_path: Path) -> None:
    lab.history = "before\r\n"
    (tmp_path / "input").write_bytes(b"ls")
    command = lab.daemon.command("web-1", "--serial", "--history", "--quiet-exit", "3")
    with (tmp_path / "input").open("rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, env=ENVIRONMENT, timeout=120)
    assert (done.returncode, done.stdout) == (0, b"before\r\nls"), done.stderr


def test_a_certificate_of_a_stranger_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab.console, "ca", trustme.CA())
    command = lab.daemon.command("web-1", "--serial")
    done = subprocess.run(command, input=b"", capture_output=True, env=ENVIRONMENT, timeout=120)
    assert done.returncode == 1
    assert b"cannot be verified" in done.stderr
