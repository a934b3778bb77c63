# SPDX-License-Identifier: Apache-2.0
"""The daemon's own way into a system VM when its agent is no help: ssh on the control network."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen
from twisted.logger import Logger

from systemvm.host.zone import TrafficType
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.hypervisors.base import Hypervisor
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.state import instances
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance

SSH_PORT = 3922
_CONNECT_S = 30
#: Made by preinit at each start (guest/paths.py); everyone in the guest may read it.
HOST_KEY = "/run/systemvm-preinit/ssh_host_ed25519_key.pub"
ASK_S = 8.0


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


class SshAccess:
    """The one place that knows how to log in to a system VM.

    Its host keys are made at each start and come with its agent's hello. While the agent has not said hello
    in this start, the row's are of an earlier one: its guest agent is asked instead, on a channel that is
    the hypervisor's own and that nobody else can answer on.
    """

    _log = Logger()

    def __init__(
        self,
        database: Database,
        directory: AgentDirectory,
        hypervisor: Hypervisor,
        key_file: Path,
    ) -> None:
        self._database = database
        self._directory = directory
        self._hypervisor = hypervisor
        self._key_file = key_file

    async def of(self, vm: Instance) -> Login:
        """HypervisorError when its host keys are not known, so that nobody there could be trusted."""
        name = vm.instance_name
        nics = await self._database.read(instances.nics_of, vm.id)
        control = next(nic for nic in nics if nic.traffic_type == TrafficType.CONTROL.value)
        keys = await self._host_keys(vm)
        if not keys:
            raise HypervisorError(
                f"{name} has not told its ssh host keys yet",
                f"they come with its agent, else by its guest agent; systemvm system-vm why {name}",
            )
        return Login(name, control.address or "", self._key_file, keys)

    async def _host_keys(self, vm: Instance) -> Sequence[str]:
        agent = self._directory.agent(vm.instance_name)
        if agent is not None and agent.hello is not None and agent.hello.host_keys:
            return list(agent.hello.host_keys)
        try:
            guest = self._hypervisor.guest_agent(vm.instance_name)
            text = await guest.read_file(HOST_KEY, limit_bytes=4096, timeout_s=ASK_S)
        except HypervisorError as error:
            self._log.info(
                "{name}: no host key by its guest agent: {why}", name=vm.instance_name, why=error.message
            )
            return vm.host_keys
        told = [" ".join(line.split()[:2]) for line in text.decode("utf-8", "replace").splitlines()]
        return [key for key in told if key.startswith("ssh-")] or vm.host_keys
