# SPDX-License-Identifier: Apache-2.0
"""The way into a system VM by ssh: its address, the zone's key, and the host keys that its agent reported."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import click
from attrs import frozen

from systemvm.cli.daemon_client import Daemon, Failed

#: No question is ever asked: an unknown key is an impostor's, and a password is never the way in.
_OPTIONS = ("StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "BatchMode=yes", "LogLevel=ERROR")
_CONNECT_TIMEOUT_S = 15


@frozen
class Login:
    """What ssh and scp need to reach one system VM.

    `HostKeyAlias` ties the key to the VM's name and not to its link-local address, which another VM may have
    had: a reused address never warns, and an impostor is refused.
    """

    name: str
    user: str
    address: str
    port: int
    key_file: str
    known_hosts: Path
    prefix: tuple[str, ...]

    @classmethod
    def of(cls, daemon: Daemon, name: str) -> Login:
        """Ask the daemon; Failed when the VM does not run, or its host keys are not known."""
        target = daemon.call("system_vm.ssh", name=name)
        if not target["host_keys"]:
            raise Failed(
                f"{name} has not told its host keys yet",
                f"It tells them when its agent is Up; `systemvm serial {name}` shows how far it came.",
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
        words = ["-i", self.key_file, "-o", f"HostKeyAlias={self.name}"]
        words += [
            "-o",
            f"UserKnownHostsFile={self.known_hosts}",
            "-o",
            f"ConnectTimeout={_CONNECT_TIMEOUT_S}",
        ]
        for option in _OPTIONS:
            words += ["-o", option]
        return words

    @property
    def place(self) -> str:
        return f"{self.user}@{self.address}"

    def ssh(self, *command: str) -> list[str]:
        """The whole command line that logs in, or runs a command there."""
        return [*self.prefix, "ssh", "-p", str(self.port), *self._options, self.place, *command]

    def scp(self, *paths: str, recursive: bool = False) -> list[str]:
        """The whole command line that copies; a path in the VM begins with `place` and a colon."""
        flags = ["-r"] if recursive else []
        return [*self.prefix, "scp", "-P", str(self.port), *flags, *self._options, *paths]


def _write_known_hosts(socket_path: Path, name: str, keys: list[str]) -> Path:
    """A file of this VM alone, replaced as a whole; it stays, so that a printed command line works on."""
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
        raise Failed(
            f"{cache} cannot be written: {error.strerror}", "XDG_CACHE_HOME names another place."
        ) from None
    return cache / name


def show(line: str) -> None:
    """A command line that a person may run by hand, beside the output and not in it."""
    click.secho(line, dim=True, err=True)
