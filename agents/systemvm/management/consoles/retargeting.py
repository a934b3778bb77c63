# SPDX-License-Identifier: Apache-2.0
"""Tells CPVMs where a VM's screen is, after it has started, moved or got another VNC port."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from systemvm.management.control.agent import Agent
from systemvm.management.control.agent_calls import ConnectedAgents
from systemvm.management.state import console_sessions, instances
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.status import InstanceState
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, RpcError
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.console import CONSOLE_RETARGET, ConsoleRetarget


class ConsoleRetargeting:
    """Calls the CPVMs that carry consoles of a VM; repeating a call has no effect.

    A CPVM that a call does not reach is called when its sessions are reconciled. Each new connection of a
    browser looks the screen up by itself.
    """

    log = Logger()

    def __init__(self, database: Database, agents: ConnectedAgents) -> None:
        self._database = database
        self._agents = agents

    async def of_machine(self, vm_id: int) -> None:
        """Call all CPVMs, without waiting for them: one that hangs must not delay a VM."""
        moves = await self._database.read(_of_machine, vm_id)
        for proxy, move in moves:
            Deferred.fromCoroutine(self._call_logged(proxy, move))

    async def reconcile(self, agent: Agent) -> None:
        """Call one CPVM for every VM whose console it carries.

        Raises: RpcError when it does not answer.
        """
        for proxy, move in await self._database.read(_of_proxy, agent.name):
            await self._call(proxy, move)

    async def _call(self, proxy: str, move: ConsoleRetarget) -> None:
        peer = self._agents.peer(proxy)
        if peer is None:
            return
        try:
            await peer.call(CONSOLE_RETARGET, move, result=Acknowledgement)
        except RpcError as error:
            if error.code != METHOD_NOT_FOUND:  # an older agent's browsers notice that their screen closed
                raise

    async def _call_logged(self, proxy: str, move: ConsoleRetarget) -> None:
        try:
            await self._call(proxy, move)
        except RpcError as error:
            self.log.warn("{name} was not told of a screen: {error}", name=proxy, error=str(error))  # noqa: G010
        except Exception:
            self.log.failure("cannot tell {name} of a screen", name=proxy)


def _of_machine(connection: Connection, vm_id: int) -> list[tuple[str, ConsoleRetarget]]:
    return _moves(connection, console_sessions.open_at(connection, vm_id=vm_id))


def _of_proxy(connection: Connection, proxy_name: str) -> list[tuple[str, ConsoleRetarget]]:
    return _moves(connection, console_sessions.open_at(connection, proxy_name=proxy_name))


def _moves(connection: Connection, carried: Iterable[tuple[str, int]]) -> list[tuple[str, ConsoleRetarget]]:
    carried = sorted(carried)
    machines = instances.by_ids(connection, sorted({vm_id for _, vm_id in carried}))
    return [
        (proxy, ConsoleRetarget(vm.uuid, vm.vnc_address, vm.vnc_port, vm.serial_port or 0))
        for proxy, vm in ((proxy, machines[vm_id]) for proxy, vm_id in carried)
        if vm.state is InstanceState.RUNNING and vm.vnc_address is not None and vm.vnc_port is not None
    ]
