# SPDX-License-Identifier: Apache-2.0
"""The daemon's ssh access to system VMs on the control network, which needs no agent."""

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
#: An emulated guest on a busy host takes half a minute until its sshd answers; callers have own deadlines.
_CONNECT_S = 120
#: Preinit creates it at each start (guest/paths.py); every user of the guest can read it.
HOST_KEY = "/run/systemvm-preinit/ssh_host_ed25519_key.pub"
READ_KEY_S = 8.0


@frozen
class VmSshLogin:
    """Address and keys of one system VM; no host key except `host_keys` is accepted."""

    name: str
    address: str
    key_file: Path
    host_keys: Sequence[str]

    @contextlib.contextmanager
    def command_line(self, command: str) -> Iterator[list[str]]:
        """Yield an argv of ssh that runs `command` as root; it is valid within the context."""
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
    """Finds address and host keys of system VMs.

    Host keys are created at each start and come with the hello of the agent. Before the hello the row holds
    those of an earlier start: the keys are then read through the guest agent, whose channel belongs to the
    hypervisor and cannot be impersonated.
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

    async def login(self, vm: Instance) -> VmSshLogin:
        """Return how to log in to a system VM.

        Raises: HypervisorError when its host keys are unknown, so that its identity cannot be verified.
        """
        name = vm.instance_name
        nics = await self._database.read(instances.nics_of, vm.id)
        control = next(nic for nic in nics if nic.traffic_type == TrafficType.CONTROL.value)
        keys = await self._host_keys(vm)
        if not keys:
            raise HypervisorError(
                f"{name} has no known ssh host keys",
                f"wait for its agent or its guest agent; see systemvm system-vm why {name}",
            )
        return VmSshLogin(name, control.address or "", self._key_file, keys)

    async def _host_keys(self, vm: Instance) -> Sequence[str]:
        agent = self._directory.agent(vm.instance_name)
        if agent is not None and agent.hello is not None and agent.hello.host_keys:
            return list(agent.hello.host_keys)
        try:
            guest = self._hypervisor.guest_agent(vm.instance_name)
            text = await guest.read_file(HOST_KEY, limit_bytes=4096, timeout_s=READ_KEY_S)
        except HypervisorError as error:
            self._log.info(
                "{name}: guest agent returned no host key: {why}", name=vm.instance_name, why=error.message
            )
            return vm.host_keys
        found = [" ".join(line.split()[:2]) for line in text.decode("utf-8", "replace").splitlines()]
        return [key for key in found if key.startswith("ssh-")] or vm.host_keys
