# SPDX-License-Identifier: Apache-2.0
"""The real CPVM agent as a process beside a real daemon, in place of the guest of an idle machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from cryptography import x509

from integration.cpvm_lab.console_process import TOP, install_stock
from integration.daemon_lab import Host
from systemvm.guest.boot_argument_source import store
from systemvm.guest.paths import GuestPaths
from systemvm.management.pki.control import ControlAuthority
from systemvm.management.state import certificates
from systemvm.management.state.database import Database
from systemvm.wire import boot_arguments
from systemvm.wire.role import Role

#: Starts a program with a socket as systemd does: descriptor 3, and the pid in LISTEN_PID.
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


def bootstrap(host: Host, name: str) -> bytes:
    """Issue and record the certificate that a start of the machine issues; the daemon must not run."""
    authority = ControlAuthority.open(host.layout.pki)
    identity = authority.bootstrap(name, Role.CPVM)
    leaf = x509.load_pem_x509_certificate(identity.certificate_pem)
    database = Database.open(host.layout.database)
    database.run_now(
        certificates.record,
        serial=f"{leaf.serial_number:x}",
        name=name,
        kind="bootstrap",
        authority_key_id="",
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
    )
    database.close()
    return identity.to_pem_bundle()


class CpvmAgent:
    """An agent with its own root directory; its console listens outside of the namespace."""

    def __init__(
        self, top: Path, host: Host, name: str, identity_pem: bytes, listening: socket.socket
    ) -> None:
        root, credentials = top / "agent-root", top / "credentials"
        paths = GuestPaths(root, credentials)
        paths.run.mkdir(parents=True)
        credentials.mkdir()
        paths.image_json.parent.mkdir(parents=True)
        paths.image_json.write_text('{"version": "7", "sha256": "ab", "role": "cpvm", "built": "now"}')
        install_stock(root / "opt/systemvm")
        text = f"type=consoleproxy name={name} host=169.254.0.1 port=8250 eth0ip=169.254.0.2"
        store(text, boot_arguments.parse(text), paths)
        (credentials / boot_arguments.IDENTITY_CREDENTIAL).write_bytes(identity_pem)
        self.log = top / "agent.log"
        self._listening = listening.dup()
        enter = ["ip", "netns", "exec", host.namespace]
        command = [sys.executable, "-m", "systemvm.guest.agent", "--root", str(root)]
        number = self._listening.fileno()
        self._command = [*enter, sys.executable, "-c", AS_SYSTEMD, str(number), *command]
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(TOP / "agents"),
            "CREDENTIALS_DIRECTORY": str(credentials),
            "LISTEN_FDS": "1",
            "LISTEN_FDNAMES": "console",
        }
        self.start()

    def start(self) -> None:
        """Start the agent with the socket, which goes on listening when the agent ends."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                env=self._environment,
                pass_fds=[self._listening.fileno()],
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=120)

    def close(self) -> None:
        self.process.terminate()
        assert self.process.wait(timeout=120) == 0, self.log.read_text()[-3000:]
        self._listening.close()
