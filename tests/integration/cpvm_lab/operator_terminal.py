# SPDX-License-Identifier: Apache-2.0
"""The command line as an operator runs it, with a console process and a double of the daemon's socket."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import socketserver
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from integration.cpvm_lab.console_process import TOP, ConsoleProcess
from systemvm.cli.daemon_client import SOCKET_UNDER_ROOT

#: Issues a token for a kind of console, and returns it.
Issue = Callable[[dict[str, Any]], str]


class DaemonSocket:
    """Answers what `systemvm console web-1` asks the daemon."""

    def __init__(self, root: Path, console: ConsoleProcess, issue: Issue) -> None:
        self.root = root
        self.asked: list[dict[str, Any]] = []
        path = root / SOCKET_UNDER_ROOT
        path.parent.mkdir(parents=True)

        def answer(method: str, params: dict[str, Any]) -> Any:
            match method:
                case "listVirtualMachines":
                    return {"virtualmachine": [{"id": "m-1", "name": "web-1", "state": "Running"}]}
                case "ca.show":
                    return {"public_root_pem": console.ca.cert_pem.bytes().decode()}
                case "createConsoleEndpoint":
                    self.asked.append(params)
                    url = f"{console.origin}/console?cmd=auth&token={issue(params)}"
                    return {"consoleendpoint": {"success": True, "url": url}}
            return {}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                body = json.dumps(
                    {"jsonrpc": "2.0", "id": call["id"], "result": answer(call["method"], call["params"])}
                ).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = socketserver.ThreadingUnixStreamServer(str(path), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "systemvm.cli", "--root", str(self.root), "console", *arguments]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(TOP / "agents"), "TERM": "xterm"}


class OperatorTerminal:
    """A terminal in which a command runs in the foreground, as below a shell."""

    def __init__(self, command: list[str]) -> None:
        self._master, slave = pty.openpty()
        self._slave = os.dup(slave)
        self.before = termios.tcgetattr(slave)
        self.text = ""
        self._is_closed = False

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, preexec_fn=take_terminal, env=ENVIRONMENT
        )
        os.close(slave)

    @property
    def is_raw(self) -> bool:
        return not termios.tcgetattr(self._slave)[3] & termios.ICANON

    @property
    def is_as_before(self) -> bool:
        return termios.tcgetattr(self._slave) == self.before

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def expect(self, pattern: str) -> str:
        """Wait until the terminal shows it; return what was shown and forget that."""
        while (found := re.search(pattern, self.text)) is None:
            ready, _, _ = select.select([self._master], [], [], 1)
            if ready:
                self.text += os.read(self._master, 65536).decode(errors="replace")
            elif self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}: {self.text!r}")
        self.text, shown = self.text[found.end() :], self.text[: found.end()]
        return shown

    def wait_until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            time.sleep(0.02)

    @property
    def is_stopped(self) -> bool:
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def wait(self) -> int:
        """Wait until the command has ended, and keep what it shows."""
        while (code := self.process.poll()) is None:
            if select.select([self._master], [], [], 0.1)[0]:
                self.text += os.read(self._master, 65536).decode(errors="replace")
        while select.select([self._master], [], [], 0)[0]:
            self.text += os.read(self._master, 65536).decode(errors="replace")
        return code

    def hang_up(self) -> None:
        """Close the terminal's window."""
        os.close(self._slave)
        os.close(self._master)
        self._is_closed = True

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=120)
        if not self._is_closed:
            self.hang_up()
