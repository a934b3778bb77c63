# SPDX-License-Identifier: Apache-2.0
"""The methods by which CPVMs authorize console connections and report their sessions.

A call is refused unless token or session, VM and CPVM fit together; a CPVM learns nothing about the sessions
of another one.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from attrs import evolve
from twisted.logger import Logger

from systemvm.management.consoles import authorization
from systemvm.management.consoles.authorization import MAX_REPORTED_SESSIONS, ConsoleDeniedError
from systemvm.management.consoles.revocation import ConsoleRevocation
from systemvm.management.consoles.serial_ports import MachineSerialPorts
from systemvm.management.consoles.token import token_hash
from systemvm.management.foreign_hosts.errors import ForeignHostError
from systemvm.management.pki.screens import screen_name
from systemvm.management.pki.seal import Seal
from systemvm.management.recordings.orders import order_for
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import RecordingMode
from systemvm.rpc.core.call import Call, ObjectAccess
from systemvm.rpc.core.method import MethodTable, Offer
from systemvm.wire import console
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.console import (
    ConsoleAuthorize,
    ConsoleClosed,
    ConsoleKind,
    ConsoleLoad,
    ConsoleRefusal,
    ConsoleScrollback,
    ConsoleSession,
    ConsoleTarget,
    ConsoleTargetRequest,
    TargetTls,
)
from systemvm.wire.role import Role


class ForeignScreens(Protocol):
    """Finds the screens of VMs on hosts that no daemon drives.

    Raises: ForeignHostError.
    """

    async def target(self, vm: Instance) -> ConsoleTarget: ...


class ConsoleAuthorizer:
    """Authorizes CPVMs to open consoles, and records their sessions."""

    log = Logger()

    def __init__(
        self,
        database: Database,
        seal: Seal,
        revocation: ConsoleRevocation,
        serial_ports: MachineSerialPorts,
        foreign: ForeignScreens,
    ) -> None:
        """`foreign` finds the screens of VMs on hosts that no daemon drives."""
        self._database = database
        self._seal = seal
        self._revocation = revocation
        self._serial_ports = serial_ports
        self._foreign = foreign

    def add_methods(self, table: MethodTable) -> None:
        """Add the methods that CPVMs call."""
        sessions = "sessions that were given to it"
        own_token = ObjectAccess(
            "tokens that were made for it", self._is_its_token, ConsoleRefusal.TOKEN_UNKNOWN
        )
        own_session = ObjectAccess(sessions, self._is_its_session, ConsoleRefusal.SESSION_ENDED)
        own_sessions = ObjectAccess(sessions, self._are_its_sessions)
        offers = (
            Offer(
                console.CONSOLE_AUTHORIZE, self._authorize, ConsoleAuthorize, ConsoleSession,
                "Spend a one-time console token", own_token,
            ),
            Offer(
                console.CONSOLE_TARGET, self._target, ConsoleTargetRequest, ConsoleTarget,
                "Return the current VNC server or serial port of a session's VM", own_session,
            ),
            Offer(
                console.CONSOLE_SCROLLBACK, self._scrollback, ConsoleTargetRequest, ConsoleScrollback,
                "Return what the serial port of a session's VM has written before", own_session,
            ),
            Offer(
                console.CONSOLE_CLOSED, self._closed, ConsoleClosed, Acknowledgement,
                "Report the end of a session; repeating it has no effect", own_session,
            ),
            Offer(
                console.CONSOLE_LOAD, self._load, ConsoleLoad, Acknowledgement,
                "Report the sessions of a CPVM", own_sessions,
            ),
        )  # fmt: skip
        table.add_all(frozenset({Role.CPVM.value}), offers)

    async def _is_its_token(self, call: Call, request: ConsoleAuthorize) -> bool:
        return await self._database.read(
            authorization.owns_token, call.caller.name, token_hash(request.token)
        )

    async def _is_its_session(self, call: Call, request: ConsoleTargetRequest | ConsoleClosed) -> bool:
        return await self._database.read(authorization.owns_sessions, call.caller.name, [request.session_id])

    async def _are_its_sessions(self, call: Call, load: ConsoleLoad) -> bool:
        return await self._database.read(authorization.owns_sessions, call.caller.name, load.session_ids)

    async def _authorize(self, call: Call, request: ConsoleAuthorize) -> ConsoleSession:
        try:
            session, vm, configured = await self._database.run(
                authorization.spend_token, call.caller.name, request
            )
        except ConsoleDeniedError as refused:
            await self._database.run(authorization.record_refusal, refused.why, request)
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
            user_id=session.user_id,
            client=request.client_address,
            session=session.uuid,
            request_id=request.request_id,
        )
        if session.takes_over:
            await self._revocation.of_others(session)
        target = None
        if request.with_target:
            with suppress(ConsoleDeniedError):  # the CPVM asks for it, and is refused
                target = await self._find_target(
                    call.caller.name, ConsoleTargetRequest(session.uuid, request.request_id)
                )
        return ConsoleSession(
            session_id=session.uuid,
            virtual_machine_id=vm.uuid,
            display_name=vm.shown_name,
            lifetime_s=configured.limits.total_timeout_s,
            policy=session.policy,
            is_recorded=session.recording is not RecordingMode.OFF and configured.recording.is_announced,
            watches=session.watches or "",
            target=target,
            kind=session.kind,
        )

    async def _target(self, call: Call, request: ConsoleTargetRequest) -> ConsoleTarget:
        try:
            return await self._find_target(call.caller.name, request)
        except ConsoleDeniedError as refused:
            raise refused.to_rpc() from None

    async def _find_target(self, proxy_name: str, request: ConsoleTargetRequest) -> ConsoleTarget:
        vm, kind = await self._database.read(authorization.machine_of, proxy_name, request.session_id)
        await self._database.run(authorization.record_target, vm, request)
        recording = await self._database.run(order_for, request.session_id, self._seal)
        if not vm.is_driven:
            return evolve(await self._foreign_screen(vm), recording=recording)
        if kind is ConsoleKind.SERIAL:
            return evolve(self._serial_ports.target(vm), recording=recording)
        sealed = vm.sealed_vnc_password
        return ConsoleTarget(
            host=vm.vnc_address or "",
            port=vm.vnc_port or 0,
            password=self._seal.open(sealed) if sealed is not None else None,
            vencrypt=TargetTls(vm.vnc_ca_pem, screen_name(vm.uuid)) if vm.vnc_ca_pem is not None else None,
            recording=recording,
        )

    async def _foreign_screen(self, vm: Instance) -> ConsoleTarget:
        try:
            return await self._foreign.target(vm)
        except ForeignHostError as error:
            self.log.info(
                "{vm}: its host shows no console: {why}",
                vm=vm.instance_name,
                why=error.message,
                hint=error.hint,
                fault=error.fault.value,
            )
            raise ConsoleDeniedError(ConsoleRefusal.SCREEN_UNREACHABLE) from None

    async def _scrollback(self, call: Call, request: ConsoleTargetRequest) -> ConsoleScrollback:
        try:
            vm, kind = await self._database.read(
                authorization.machine_of, call.caller.name, request.session_id
            )
        except ConsoleDeniedError as refused:
            raise refused.to_rpc() from None
        if kind is not ConsoleKind.SERIAL:
            return ConsoleScrollback(b"")
        return await self._serial_ports.scrollback(vm)

    async def _closed(self, call: Call, closed: ConsoleClosed) -> Acknowledgement:
        await self._database.run(authorization.close_session, call.caller.name, closed)
        self.log.info(
            "{proxy}: console session {session} ended: {reason}",
            proxy=call.caller.name,
            session=closed.session_id,
            reason=closed.reason,
            code=closed.code,  # journal fields of their own, as all values here
            sent_bytes=closed.sent_bytes,
            received_bytes=closed.received_bytes,
        )
        return Acknowledgement()

    async def _load(self, call: Call, load: ConsoleLoad) -> Acknowledgement:
        count = min(len(set(load.session_ids)), MAX_REPORTED_SESSIONS)
        await self._database.run(authorization.set_load, call.caller.name, count)
        return Acknowledgement()
