# SPDX-License-Identifier: Apache-2.0
"""A console in a child process, with commands for the fake daemon behind it."""

from __future__ import annotations

import json
import os
import secrets
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import trustme
from attrs import asdict

from systemvm.wire.console import UNRESTRICTED, ConsolePolicy

TOP = Path(__file__).resolve().parents[3]
BUILD = TOP / "build"
#: Of the agent's unit.
OPENSSL_CONF = TOP / "appliances/base/overlay/etc/systemvm/openssl.cnf"


def install_stock(home: Path) -> None:
    """Copy stock noVNC and xterm.js, which the image build unpacks, to where the image has them.

    Raises: FileNotFoundError when no image was built yet.
    """
    home.mkdir(parents=True)
    if not (BUILD / "novnc/core/rfb.js").is_file():
        raise FileNotFoundError(f"{BUILD / 'novnc'} is missing: run `make images`")
    for name in ("novnc", "xterm", "xterm-fit"):
        if (BUILD / name).exists():  # a build of an earlier release has only noVNC
            subprocess.run(["cp", "-R", BUILD / name, home], check=True, timeout=120)


class ConsoleProcess:
    """Start a console, set it up with a certificate of a new CA, and issue tokens for screens."""

    def __init__(self, folder: Path, *, set_up: bool = True, listening: socket.socket | None = None) -> None:
        """`listening` can be of another network namespace; it is closed here."""
        self.ca = trustme.CA()
        self.log_path = folder / "console.log"
        self.root = root = folder / "root"
        if not root.exists():  # a second one goes on with what the first has left
            install_stock(root / "opt/systemvm")
        listening = listening or socket.create_server(("127.0.0.1", 0))
        self.port: int = listening.getsockname()[1]
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "integration.cpvm_lab.console_process_main",
                str(root),
                str(listening.fileno()),
                str(self.log_path),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[listening.fileno()],
            env={
                **os.environ,
                "PYTHONPATH": f"{TOP / 'agents'}:{TOP / 'tests'}",
                "OPENSSL_CONF": str(OPENSSL_CONF),
            },
            text=True,
        )
        listening.close()
        self._answer()
        if set_up:
            self.set_up()

    @property
    def origin(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def order(self, do: str, **details: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **details}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the console ended: {self.log()[-3000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["ok"]

    def set_up(self, *names: str, **details: Any) -> None:
        certificate = self.ca.issue_cert(*(names or ("127.0.0.1",)))
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems).decode()
        key = certificate.private_key_pem.bytes().decode()
        setup = {"origin": self.origin, "certificate_pem": chain, "private_key_pem": key}
        self.order("setup", **(setup | details))

    def issue(
        self,
        port: int,
        password: str | None = None,
        *,
        lifetime_s: float = 600,
        name: str = "web-1",
        refuse: str | None = None,
        policy: ConsolePolicy = UNRESTRICTED,
        watches: str = "",
        is_recorded: bool = False,
        kind: str = "screen",
        **target: Any,
    ) -> tuple[str, str]:
        """Return a new token and its session id, for the screen at a port of loopback.

        `target` are more members of ConsoleTarget.
        """
        token, session_id = secrets.token_urlsafe(24), secrets.token_hex(8)
        self.order(
            "issue",
            token=token,
            refuse=refuse,
            session={
                "session_id": session_id,
                "virtual_machine_id": "vm-" + session_id,
                "display_name": name,
                "lifetime_s": lifetime_s,
                "policy": asdict(policy),
                "watches": watches,
                "is_recorded": is_recorded,
                "kind": kind,
            },
            target={"host": "127.0.0.1", "port": port, "password": password, "kind": kind, **target},
        )
        return token, session_id

    def calls_of(self, method: str) -> list[dict[str, Any]]:
        """Return the calls and notifications of one method that the fake daemon received."""
        return [message for message in self.order("calls") if message["method"] == method]

    def client_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8")

    def kill(self) -> None:
        """Kill the console: nothing of it runs any more."""
        self.process.kill()
        self.process.wait(timeout=120)
        self._close_pipes()

    def close(self) -> None:
        """Stop the console as the agent does."""
        if self.process.poll() is None:
            self.order("stop")
            self.process.wait(timeout=120)
        self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
