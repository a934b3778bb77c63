# SPDX-License-Identifier: Apache-2.0
"""The daemon's own way into a system VM when its agent is no help: ssh on the control network."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen

SSH_PORT = 3922
_CONNECT_S = 30


@frozen
class Login:
    """Where and as whom; `host_keys` are those that the agent told, and no other is believed."""

    name: str
    address: str
    key_file: Path
    host_keys: Sequence[str]

    @contextlib.contextmanager
    def command_line(self, command: str) -> Iterator[list[str]]:
        """An argv of ssh that runs `command` as root; holds for as long as the context does."""
        handle, known_hosts = tempfile.mkstemp(prefix="systemvm-known-hosts-")
        try:
            with os.fdopen(handle, "w") as file:
                for key in self.host_keys:
                    file.write(f"{self.name} {' '.join(key.split()[:2])}\n")
            yield [
                *("ssh", "-T", "-p", str(SSH_PORT), "-i", str(self.key_file)),
                *("-o", "BatchMode=yes", "-o", f"HostKeyAlias={self.name}"),
                *("-o", f"UserKnownHostsFile={known_hosts}", "-o", "GlobalKnownHostsFile=/dev/null"),
                *("-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"),
                *("-o", f"ConnectTimeout={_CONNECT_S}"),
                *("-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=6"),
                f"root@{self.address}",
                command,
            ]
        finally:
            Path(known_hosts).unlink(missing_ok=True)
