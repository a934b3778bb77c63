# SPDX-License-Identifier: Apache-2.0
"""Command lines of ssh and scp for a system VM: its address, the zone's key, the host keys of its agent."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import click
from attrs import frozen

from systemvm.cli.daemon_client import CommandFailedError, DaemonClient

#: ssh must never prompt: an unknown host key is an impostor's, and no system VM accepts a password.
_OPTIONS = ("StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "BatchMode=yes", "LogLevel=ERROR")
#: Until its sshd, which is started for each connection, has answered: seconds in an emulated guest, and half
#: a minute beside a load of nine for each core.
_CONNECT_TIMEOUT_S = 120


@frozen
class SshCommandLine:
    """What ssh and scp need to log in to one system VM.

    `HostKeyAlias` ties the host key to the VM's name and not to its link-local address, which another VM
    might have had: a reused address causes no warning, and an impostor is rejected.
    """

    name: str
    user: str
    address: str
    port: int
    key_file: str
    known_hosts: Path
    prefix: tuple[str, ...]

    @classmethod
    def of(cls, daemon: DaemonClient, name: str) -> SshCommandLine:
        """Get what is needed from the daemon.

        Raises: CommandFailedError when the VM does not run, or its host keys are not known.
        """
        target = daemon.call("system_vm.ssh", name=name)
        if not target["host_keys"]:
            raise CommandFailedError(
                f"host keys of {name} are not known: its agent has not reported them",
                f'wait until the agent is Up; run "systemvm serial {name}" to see how far the VM has booted',
            )
        return cls(
            name=name,
            user=target["user"],
            address=target["address"],
            port=target["port"],
            key_file=target["key_file"],
            known_hosts=_write_known_hosts(daemon.socket_path, name, target["host_keys"]),
            prefix=tuple(daemon.namespace_prefix()),
        )

    @property
    def _options(self) -> list[str]:
        options = ["-i", self.key_file, "-o", f"HostKeyAlias={self.name}"]
        options += [
            "-o",
            f"UserKnownHostsFile={self.known_hosts}",
            "-o",
            f"ConnectTimeout={_CONNECT_TIMEOUT_S}",
        ]
        for option in _OPTIONS:
            options += ["-o", option]
        return options

    @property
    def destination(self) -> str:
        """USER@ADDRESS, as ssh and scp take it."""
        return f"{self.user}@{self.address}"

    def ssh(self, *command: str) -> list[str]:
        """Return the command line that logs in, or runs a command in the VM."""
        return [*self.prefix, "ssh", "-p", str(self.port), *self._options, self.destination, *command]

    def scp(self, *paths: str, recursive: bool = False) -> list[str]:
        """Return the command line that copies; a path in the VM begins with `destination` and a colon."""
        flags = ["-r"] if recursive else []
        return [*self.prefix, "scp", "-P", str(self.port), *flags, *self._options, *paths]


def _write_known_hosts(socket_path: Path, name: str, keys: list[str]) -> Path:
    """Write a file for this VM only, atomically. It stays, so that a printed command line keeps working."""
    # two clouds on one host have VMs of the same names
    cloud = hashlib.sha256(os.fsencode(socket_path)).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "systemvm/known_hosts" / cloud
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=cache, prefix=f".{name}.", delete=False) as file:
            for key in keys:
                file.write(f"{name} {' '.join(key.split()[:2])}\n")
        Path(file.name).replace(cache / name)
    except OSError as error:
        raise CommandFailedError(
            f"cannot write {cache}: {error.strerror}", "set XDG_CACHE_HOME to a directory that you can write"
        ) from None
    return cache / name


def print_command_line(line: str) -> None:
    """Print a command line to standard error, so that a person can run it by hand."""
    click.secho(line, dim=True, err=True)
