# SPDX-License-Identifier: Apache-2.0
"""console.power: what the user of a console does to the VM, with the rights that this user has now.

The work is that of the API's commands, as jobs in the user's name. A link cannot do more than its user, and a
view-only link nothing. System VMs are kept running by the daemon, so a console does not stop them.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.logger import Logger

from systemvm.management.consoles import authorization
from systemvm.management.consoles.authorization import ConsoleDeniedError
from systemvm.management.jobs.runner import JobRunner
from systemvm.management.state import accounts, console_sessions, domains, instances, roles
from systemvm.management.state.accounts import Account
from systemvm.management.state.console_sessions import ConsoleSessionRow
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState, InstanceType
from systemvm.rpc.core.call import Call, ObjectAccess
from systemvm.rpc.core.method import MethodTable
from systemvm.wire.console import (
    CONSOLE_POWER,
    ConsolePower,
    ConsoleRefusal,
    MachinePower,
    PowerAction,
)
from systemvm.wire.role import Role

_OF_STATE = {
    InstanceState.RUNNING: [
        PowerAction.REBOOT,
        PowerAction.STOP,
        PowerAction.RESET,
        PowerAction.TURN_OFF,
    ],
    InstanceState.STOPPED: [PowerAction.START],
    InstanceState.STOPPING: [PowerAction.TURN_OFF],
}
_JOBS: dict[PowerAction, tuple[str, dict[str, Any]]] = {
    PowerAction.START: ("startVirtualMachine", {}),
    PowerAction.REBOOT: ("rebootVirtualMachine", {"forced": False}),
    PowerAction.STOP: ("stopVirtualMachine", {"forced": False}),
    PowerAction.RESET: ("rebootVirtualMachine", {"forced": True}),
    PowerAction.TURN_OFF: ("stopVirtualMachine", {"forced": True}),
}


@frozen
class _Machine:
    """The VM of a session, the session's user, and what this user may do."""

    session: ConsoleSessionRow
    vm: Instance
    account: Account
    actions: list[PowerAction]


class ConsolePowerSwitch:
    """Answers `console.power`."""

    log = Logger()

    def __init__(self, database: Database, jobs: JobRunner) -> None:
        self._database = database
        self._jobs = jobs

    def add_methods(self, table: MethodTable) -> None:
        table.add(
            CONSOLE_POWER,
            self._power,
            params=ConsolePower,
            result=MachinePower,
            roles=frozenset({Role.CPVM.value}),
            summary="Return the power state of a session's VM, and change it as the session's user",
            objects=ObjectAccess(
                "sessions that were given to it", self._is_its_session, ConsoleRefusal.SESSION_ENDED
            ),
        )

    async def _is_its_session(self, call: Call, request: ConsolePower) -> bool:
        return await self._database.read(authorization.owns_sessions, call.caller.name, [request.session_id])

    async def _power(self, call: Call, request: ConsolePower) -> MachinePower:
        try:
            found = await self._database.read(_machine_of, call.caller.name, request.session_id)
            if request.action is None:
                return MachinePower(found.vm.state.value, found.actions)
            if request.action not in found.actions:
                raise ConsoleDeniedError(ConsoleRefusal.POWER_REFUSED)
        except ConsoleDeniedError as refused:
            raise refused.to_rpc() from None
        await self._start(found, request, request.action)
        return MachinePower(found.vm.state.value)

    async def _start(self, found: _Machine, request: ConsolePower, action: PowerAction) -> None:
        command, arguments = _JOBS[action]
        vm, session = found.vm, found.session
        text = f"of {vm.shown_name}: {request.client_address} asks for {action.value}"
        await self._database.run(
            console_sessions.record, session, "POWER", text, request_id=request.request_id
        )
        job = await self._jobs.submit(
            command,
            {"id": vm.id, **arguments},
            account_id=found.account.id,
            domain_id=found.account.domain_id,
            user_id=session.user_id,
            instance_type="VirtualMachine",
            instance_uuid=vm.uuid,
            request_id=request.request_id,
        )
        self.log.info(
            "{action} of {vm} by console session {session}, job {job}",
            action=action.value,
            vm=vm.instance_name,
            session=session.uuid,
            job=job.uuid,
            request_id=request.request_id,
        )


def _machine_of(connection: Connection, proxy_name: str, session_id: str) -> _Machine:
    session = authorization.open_session(connection, proxy_name, session_id)
    vm = instances.by_id(connection, session.vm_id)
    if vm.removed is not None or vm.state.is_gone:
        raise ConsoleDeniedError(ConsoleRefusal.MACHINE_GONE)
    user = accounts.user_by_id(connection, session.user_id)
    account = accounts.account_by_id(connection, user.account_id)
    domain = accounts.domain_by_id(connection, account.domain_id)
    beneath = domains.reach_of(connection, account, domain)
    may = (
        accounts.is_enabled(connection, user)
        and vm.type is InstanceType.USER
        and vm.is_driven
        and (account.is_admin or vm.account_id in {account.id} | beneath)
        and not session.policy.view_only
    )
    found = _OF_STATE.get(vm.state, []) if may else []
    permitted = [action for action in found if roles.permits(connection, account, _JOBS[action][0])]
    return _Machine(session, vm, account, permitted)
