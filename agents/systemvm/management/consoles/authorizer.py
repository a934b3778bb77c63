# SPDX-License-Identifier: Apache-2.0
"""What CPVMs ask before they show a screen, and what they tell of the sessions they carry.

Every answer is a no unless everything fits: the token or session, the VM behind it, and the CPVM that asks,
which learns nothing of sessions that were given to another.
"""

from __future__ import annotations

from twisted.logger import Logger

from systemvm.management.consoles.token import SESSION_LIFETIME, token_hash
from systemvm.management.pki.seal import Seal
from systemvm.management.state import accounts, console_sessions, instances
from systemvm.management.state.columns import now
from systemvm.management.state.console_sessions import ConsoleSessionRow
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import InstanceState
from systemvm.rpc.core.call import Call, ObjectAccess
from systemvm.rpc.core.errors import REFUSED, RpcError
from systemvm.rpc.core.method import MethodTable
from systemvm.service.errors import SystemVmError
from systemvm.wire import console
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.console import (
    ConsoleAuthorize,
    ConsoleClosed,
    ConsoleLoad,
    ConsoleRefusal,
    ConsoleSession,
    ConsoleTarget,
    ConsoleTargetRequest,
)
from systemvm.wire.role import Role

MAX_REPORTED_SESSIONS = 10_000
MAX_REASON_LENGTH = 255

_WORDS = {
    ConsoleRefusal.TOKEN_UNKNOWN: ("This console link is not valid.", "Open the console again."),
    ConsoleRefusal.TOKEN_USED: ("This console link was used before.", "Open the console again."),
    ConsoleRefusal.TOKEN_EXPIRED: ("This console link has expired.", "Open the console again."),
    ConsoleRefusal.TOKEN_REPLACED: (
        "A newer link to this console replaced this one.",
        "Use the newest one, or open the console again.",
    ),
    ConsoleRefusal.SESSION_ENDED: ("This console session has ended.", "Open the console again."),
    ConsoleRefusal.MACHINE_STOPPED: (
        "The virtual machine is not running.",
        "Start it, then open its console.",
    ),
    ConsoleRefusal.MACHINE_STOPPING: ("The virtual machine is being stopped.", "Wait until it runs again."),
    ConsoleRefusal.MACHINE_STARTING: ("The virtual machine is being started.", "Wait until it runs."),
    ConsoleRefusal.MACHINE_GONE: ("The virtual machine was destroyed.", ""),
    ConsoleRefusal.LOGGED_OUT: ("The user logged out.", "Log in and open the console again."),
    ConsoleRefusal.ACCESS_REVOKED: ("The user or account may not use the cloud any more.", ""),
}


#: What a machine that does not run is doing; its sessions wait for it.
_NOT_RUNNING = {
    InstanceState.STARTING: ConsoleRefusal.MACHINE_STARTING,
    InstanceState.STOPPING: ConsoleRefusal.MACHINE_STOPPING,
}
#: Why the daemon ended a session, by `close_reason`; every other end is SESSION_ENDED.
_ENDINGS = {
    why.value: why
    for why in (
        ConsoleRefusal.TOKEN_REPLACED,
        ConsoleRefusal.MACHINE_GONE,
        ConsoleRefusal.LOGGED_OUT,
        ConsoleRefusal.ACCESS_REVOKED,
    )
}


class _RefusedError(SystemVmError):
    """A no, raised inside of a transaction, which it undoes."""

    def __init__(self, why: ConsoleRefusal) -> None:
        super().__init__(why.value, code=why)
        self.why = why

    def to_rpc(self) -> RpcError:
        message, hint = _WORDS[self.why]
        data = {"reason": self.why.fallback.value, "code": self.why.value, "hint": hint}
        return RpcError(REFUSED, message, data)


class ConsoleAuthorizer:
    """The methods that CPVMs call."""

    log = Logger()

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    def add_methods(self, table: MethodTable) -> None:
        cpvms = frozenset({Role.CPVM.value})
        sessions = "sessions that were given to it"
        own_session = ObjectAccess(sessions, self._is_its_session, ConsoleRefusal.SESSION_ENDED.value)
        table.add(
            console.CONSOLE_AUTHORIZE,
            self._authorize,
            params=ConsoleAuthorize,
            result=ConsoleSession,
            roles=cpvms,
            summary="Spend a console token, once",
            objects=ObjectAccess(
                "tokens that were made for it", self._is_its_token, ConsoleRefusal.TOKEN_UNKNOWN.value
            ),
        )
        table.add(
            console.CONSOLE_TARGET,
            self._target,
            params=ConsoleTargetRequest,
            result=ConsoleTarget,
            roles=cpvms,
            summary="Where the screen of a session's VM is now",
            objects=own_session,
        )
        table.add(
            console.CONSOLE_CLOSED,
            self._closed,
            params=ConsoleClosed,
            result=Acknowledgement,
            roles=cpvms,
            summary="A session has ended; may be said again",
            objects=own_session,
        )
        table.add(
            console.CONSOLE_LOAD,
            self._load,
            params=ConsoleLoad,
            result=Acknowledgement,
            roles=cpvms,
            summary="Which sessions a CPVM carries",
            objects=ObjectAccess(sessions, self._are_its_sessions),
        )

    async def _is_its_token(self, call: Call, request: ConsoleAuthorize) -> bool:
        return await self._database.read(_owns_token, call.caller.name, token_hash(request.token))

    async def _is_its_session(self, call: Call, request: ConsoleTargetRequest | ConsoleClosed) -> bool:
        return await self._database.read(_owns_sessions, call.caller.name, [request.session_id])

    async def _are_its_sessions(self, call: Call, load: ConsoleLoad) -> bool:
        return await self._database.read(_owns_sessions, call.caller.name, load.session_ids)

    async def _authorize(self, call: Call, request: ConsoleAuthorize) -> ConsoleSession:
        try:
            session, vm = await self._database.run(
                _spend,
                call.caller.name,
                token_hash(request.token),
                request.client_address,
                request.request_id,
            )
        except _RefusedError as refused:
            await self._database.run(_note_refusal, token_hash(request.token), refused.why, request)
            self.log.info(
                "{proxy}: console refused to {client}: {why} ({request_id})",
                proxy=call.caller.name,
                client=request.client_address,
                why=refused.why.value,
                request_id=request.request_id,
            )
            raise refused.to_rpc() from None
        self.log.info(
            "{proxy}: console of {vm} opened by {client}, session {session} ({request_id})",
            proxy=call.caller.name,
            vm=vm.instance_name,
            client=request.client_address,
            session=session.uuid,
            request_id=request.request_id,
        )
        return ConsoleSession(
            session_id=session.uuid,
            virtual_machine_id=vm.uuid,
            display_name=vm.shown_name,
            lifetime_s=SESSION_LIFETIME.total_seconds(),
        )

    async def _target(self, call: Call, request: ConsoleTargetRequest) -> ConsoleTarget:
        try:
            vm = await self._database.read(_machine_of, call.caller.name, request.session_id)
            await self._database.run(_note_screen, vm, request)
        except _RefusedError as refused:
            raise refused.to_rpc() from None
        sealed = vm.sealed_vnc_password
        return ConsoleTarget(
            host=vm.vnc_address or "",
            port=vm.vnc_port or 0,
            password=self._seal.open(sealed) if sealed is not None else None,
        )

    async def _closed(self, call: Call, closed: ConsoleClosed) -> Acknowledgement:
        await self._database.run(_close, call.caller.name, closed)
        return Acknowledgement()

    async def _load(self, call: Call, load: ConsoleLoad) -> Acknowledgement:
        count = min(len(set(load.session_ids)), MAX_REPORTED_SESSIONS)
        await self._database.run(_set_load, call.caller.name, count)
        return Acknowledgement()


def _owns_token(connection: Connection, proxy_name: str, hashed_token: str) -> bool:
    session = console_sessions.by_token_hash(connection, hashed_token)
    return session is None or session.proxy_id == instances.by_instance_name(connection, proxy_name).id


def _owns_sessions(connection: Connection, proxy_name: str, session_ids: list[str]) -> bool:
    """Whether none of them is another CPVM's; those that there are not are nobody's."""
    proxy = instances.by_instance_name(connection, proxy_name)
    named = session_ids[:MAX_REPORTED_SESSIONS]
    return not console_sessions.of_others(connection, proxy.id, named)


def _spend(
    connection: Connection, proxy_name: str, hashed_token: str, client_address: str, request_id: str
) -> tuple[ConsoleSessionRow, Instance]:
    """The VM is looked at first: a machine that is not running costs nobody a token."""
    proxy = instances.by_instance_name(connection, proxy_name)
    session = console_sessions.by_token_hash(connection, hashed_token)
    if session is None or session.proxy_id != proxy.id:
        raise _RefusedError(ConsoleRefusal.TOKEN_UNKNOWN)
    if session.acquired is not None:
        raise _RefusedError(ConsoleRefusal.TOKEN_USED)
    if session.close_reason in _ENDINGS:
        raise _RefusedError(_ENDINGS[session.close_reason])
    if not accounts.is_enabled(connection, accounts.user_by_id(connection, session.user_id)):
        # its link was asked for just before, and made just after their consoles were ended
        raise _RefusedError(ConsoleRefusal.ACCESS_REVOKED)
    vm = _running(connection, session)
    spent = console_sessions.spend(
        connection,
        hashed_token,
        proxy_id=proxy.id,
        client_address=client_address[:64],
        session_expires=now() + SESSION_LIFETIME,
    )
    if spent is None:
        raise _RefusedError(ConsoleRefusal.TOKEN_EXPIRED)
    console_sessions.record(
        connection, spent, "OPEN", f"is opened by {client_address} at {proxy_name}", request_id=request_id
    )
    return spent, vm


def _note_refusal(
    connection: Connection, hashed_token: str, why: ConsoleRefusal, request: ConsoleAuthorize
) -> None:
    session = console_sessions.by_token_hash(connection, hashed_token)
    if session is not None:
        message, hint = _WORDS[why]
        text = f"is refused to {request.client_address}: {message} {hint}".rstrip()
        console_sessions.record(
            connection, session, "REFUSE", text, level="ERROR", request_id=request.request_id
        )


def _note_screen(connection: Connection, vm: Instance, request: ConsoleTargetRequest) -> None:
    session = console_sessions.by_uuid(connection, request.session_id)
    text = f"looks for the screen of {vm.shown_name} at {vm.vnc_address}:{vm.vnc_port}"
    console_sessions.record(connection, session, "SCREEN", text, request_id=request.request_id)


def _machine_of(connection: Connection, proxy_name: str, session_id: str) -> Instance:
    proxy = instances.by_instance_name(connection, proxy_name)
    try:
        session = console_sessions.by_uuid(connection, session_id)
    except NotFoundError:
        raise _RefusedError(_ending_of(connection, proxy, session_id)) from None
    expired = session.session_expires is None or session.session_expires <= now()
    if session.proxy_id != proxy.id or session.acquired is None or expired:
        raise _RefusedError(ConsoleRefusal.SESSION_ENDED)
    return _running(connection, session)


def _ending_of(connection: Connection, proxy: Instance, session_id: str) -> ConsoleRefusal:
    """Why a session of this CPVM ended, when the daemon ended it."""
    row = console_sessions.find_any(connection, session_id)
    if row is None or row.proxy_id != proxy.id:
        return ConsoleRefusal.SESSION_ENDED
    return _ENDINGS.get(row.close_reason or "", ConsoleRefusal.SESSION_ENDED)


def _running(connection: Connection, session: ConsoleSessionRow) -> Instance:
    vm = instances.by_id(connection, session.vm_id)
    if vm.removed is not None or vm.state.is_gone:
        raise _RefusedError(ConsoleRefusal.MACHINE_GONE)
    if vm.state is not InstanceState.RUNNING or vm.vnc_port is None or vm.vnc_address is None:
        raise _RefusedError(_NOT_RUNNING.get(vm.state, ConsoleRefusal.MACHINE_STOPPED))
    return vm


def _close(connection: Connection, proxy_name: str, closed: ConsoleClosed) -> None:
    """End a session of this very CPVM; one that has ended stays as it is."""
    proxy = instances.by_instance_name(connection, proxy_name)
    row = console_sessions.find_any(connection, closed.session_id)
    if row is not None and row.proxy_id == proxy.id:
        console_sessions.close(connection, row.uuid, closed.reason[:MAX_REASON_LENGTH])


def _set_load(connection: Connection, proxy_name: str, count: int) -> None:
    proxy = instances.by_instance_name(connection, proxy_name)
    if proxy.console_sessions != count:
        instances.update(connection, proxy.id, console_sessions=count)
