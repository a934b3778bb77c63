# SPDX-License-Identifier: Apache-2.0
"""The checks behind console connections, and the rows that they change. Functions over a connection."""

from __future__ import annotations

import hmac
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address

from systemvm.management.configurations import console as settings
from systemvm.management.configurations.console import ConsoleSettings
from systemvm.management.consoles.token import token_hash
from systemvm.management.state import accounts, console_sessions, instances
from systemvm.management.state.columns import now
from systemvm.management.state.console_sessions import ConsoleSessionRow
from systemvm.management.state.database import Connection
from systemvm.management.state.instances import Instance
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import InstanceState
from systemvm.rpc.core.errors import REFUSED, RpcError
from systemvm.service.errors import SystemVmError
from systemvm.wire.console import (
    ConsoleAuthorize,
    ConsoleClosed,
    ConsoleKind,
    ConsoleRefusal,
    ConsoleTargetRequest,
)

MAX_REPORTED_SESSIONS = 10_000
MAX_REASON_LENGTH = 255

TEXTS = {
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
    ConsoleRefusal.ACCESS_REVOKED: ("The user or account has no access to the cloud any more.", ""),
    ConsoleRefusal.TAKEN_OVER: ("Another user took this console over.", "Open the console again."),
    ConsoleRefusal.CLOSED: (
        "This console was closed by its owner or an administrator.",
        "Open the console again.",
    ),
    ConsoleRefusal.OTHER_SOURCE: (
        "This console link was made for another address.",
        "Open the console from the device that asked for it: novnc.console.sourceip.check.enabled is true.",
    ),
    ConsoleRefusal.WATCHED_ENDED: (
        "The console session that this link watches has ended.",
        "See the open ones: systemvm console list",
    ),
    ConsoleRefusal.SCREEN_UNREACHABLE: (
        "The virtual machine's host shows no screen of it now.",
        "Try again, or ask the cloud's operator: the daemon's log has the reason.",
    ),
    ConsoleRefusal.EXTRA_REFUSED: (
        "The additional secret of this console link is missing or wrong.",
        "Open the console again.",
    ),
    ConsoleRefusal.NOT_RECORDED: (
        "This console must be recorded, and no store takes recordings now.",
        "Add an NFS store to the zone, or make one writable.",
    ),
    ConsoleRefusal.POWER_REFUSED: (
        "The console may not change the power of the virtual machine like this now.",
        "Look at its state, or use the cloud's page.",
    ),
}


#: The refusals for machines that do not run yet; their sessions wait.
_NOT_RUNNING = {
    InstanceState.STARTING: ConsoleRefusal.MACHINE_STARTING,
    InstanceState.STOPPING: ConsoleRefusal.MACHINE_STOPPING,
}
#: The reasons for which the daemon ends sessions, by `close_reason`; any other end is SESSION_ENDED.
_ENDINGS = {
    why.value: why
    for why in (
        ConsoleRefusal.TOKEN_REPLACED,
        ConsoleRefusal.MACHINE_GONE,
        ConsoleRefusal.LOGGED_OUT,
        ConsoleRefusal.ACCESS_REVOKED,
        ConsoleRefusal.EXTRA_REFUSED,
        ConsoleRefusal.TAKEN_OVER,
        ConsoleRefusal.CLOSED,
    )
}


class ConsoleDeniedError(SystemVmError):
    """A refusal, raised inside a transaction, which it rolls back."""

    def __init__(self, why: ConsoleRefusal) -> None:
        super().__init__(why.value, code=why)
        self.why = why

    def to_rpc(self) -> RpcError:
        message, hint = TEXTS[self.why]
        data = {"reason": self.why.fallback.value, "code": self.why.value, "hint": hint}
        return RpcError(REFUSED, message, data)


def owns_token(connection: Connection, proxy_name: str, hashed_token: str) -> bool:
    session = console_sessions.by_token_hash(connection, hashed_token)
    return session is None or session.proxy_id == instances.by_instance_name(connection, proxy_name).id


def owns_sessions(connection: Connection, proxy_name: str, session_ids: list[str]) -> bool:
    """Return whether no session belongs to another CPVM; unknown sessions belong to none."""
    proxy = instances.by_instance_name(connection, proxy_name)
    named = session_ids[:MAX_REPORTED_SESSIONS]
    return not console_sessions.of_others(connection, proxy.id, named)


def spend_token(
    connection: Connection, proxy_name: str, request: ConsoleAuthorize
) -> tuple[ConsoleSessionRow, Instance, ConsoleSettings]:
    """Spend a token; the VM is checked first, so that a machine that does not run spends no token."""
    hashed_token, client_address = token_hash(request.token), request.client_address
    proxy = instances.by_instance_name(connection, proxy_name)
    session = console_sessions.by_token_hash(connection, hashed_token)
    if session is None or session.proxy_id != proxy.id:
        raise ConsoleDeniedError(ConsoleRefusal.TOKEN_UNKNOWN)
    if session.acquired is not None:
        raise ConsoleDeniedError(ConsoleRefusal.TOKEN_USED)
    if session.close_reason in _ENDINGS:
        raise ConsoleDeniedError(_ENDINGS[session.close_reason])
    if not accounts.is_enabled(connection, accounts.user_by_id(connection, session.user_id)):
        # the link was created while the consoles of the user were being ended
        raise ConsoleDeniedError(ConsoleRefusal.ACCESS_REVOKED)
    configured = settings.of_zone(connection, session.zone_id)
    _check_client(session, request, configured.checks_source)
    watched = _watched(connection, session)
    vm = _running(connection, session)
    spent = console_sessions.spend(
        connection,
        hashed_token,
        proxy_id=proxy.id,
        client_address=client_address[:64],
        session_expires=now() + timedelta(seconds=configured.limits.total_timeout_s),
    )
    if spent is None:
        raise ConsoleDeniedError(ConsoleRefusal.TOKEN_EXPIRED)
    console_sessions.record(
        connection,
        spent,
        "OPEN",
        f"is opened by {client_address} through {proxy_name}",
        request_id=request.request_id,
    )
    if watched is not None:
        watcher = accounts.user_by_id(connection, session.user_id).username
        text = f"is watched by {watcher} from {client_address}, with session {session.uuid}"
        console_sessions.record(
            connection, session, "WATCH", text, about=watched.uuid, request_id=request.request_id
        )
    return spent, vm, configured


def _watched(connection: Connection, session: ConsoleSessionRow) -> ConsoleSessionRow | None:
    """Return the session that this one watches, which must be open at the same CPVM."""
    if session.watches is None:
        return None
    watched = console_sessions.find_any(connection, session.watches)
    if watched is None or watched.removed is not None or watched.proxy_id != session.proxy_id:
        raise ConsoleDeniedError(ConsoleRefusal.WATCHED_ENDED)
    return watched


def _check_client(session: ConsoleSessionRow, request: ConsoleAuthorize, checks_source: bool) -> None:
    """Check what a stolen link lacks: the address that asked for it, and the additional secret."""
    if checks_source and not _is_same_address(session.creator_address or "", request.client_address):
        raise ConsoleDeniedError(ConsoleRefusal.OTHER_SOURCE)
    if session.extra_hash is not None and not hmac.compare_digest(
        session.extra_hash, token_hash(request.extra)
    ):
        raise ConsoleDeniedError(ConsoleRefusal.EXTRA_REFUSED)


def _is_same_address(one: str, other: str) -> bool:
    try:
        return _unmapped(one) == _unmapped(other)
    except ValueError:
        return False  # one of them is not an address, so nothing proves that they are the same


def _unmapped(text: str) -> IPv4Address | IPv6Address:
    """Return an address; IPv4 can come as ::ffff:a.b.c.d."""
    address = ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def record_refusal(connection: Connection, why: ConsoleRefusal, request: ConsoleAuthorize) -> None:
    session = console_sessions.by_token_hash(connection, token_hash(request.token))
    if session is not None:
        if why is ConsoleRefusal.EXTRA_REFUSED:
            # one guess: who has the link without its secret has stolen it
            console_sessions.close(connection, session.uuid, why.value)
        message, hint = TEXTS[why]
        text = f"is refused to {request.client_address}: {message} {hint}".rstrip()
        console_sessions.record(
            connection, session, "REFUSE", text, level="ERROR", request_id=request.request_id
        )


def record_target(connection: Connection, vm: Instance, request: ConsoleTargetRequest) -> None:
    session = console_sessions.by_uuid(connection, request.session_id)
    is_serial = session.kind is ConsoleKind.SERIAL
    port, what = (vm.serial_port, "SERIAL") if is_serial else (vm.vnc_port, "SCREEN")
    text = f"connects to {vm.shown_name} at {vm.vnc_address}:{port}"
    console_sessions.record(connection, session, what, text, request_id=request.request_id)


def machine_of(connection: Connection, proxy_name: str, session_id: str) -> tuple[Instance, ConsoleKind]:
    """Return the VM of a CPVM's session, and what of it the session shows."""
    session = open_session(connection, proxy_name, session_id)
    return _running(connection, session), session.kind


def open_session(connection: Connection, proxy_name: str, session_id: str) -> ConsoleSessionRow:
    """Return a session of this CPVM that a browser has opened and that has not ended.

    Raises: ConsoleDeniedError.
    """
    proxy = instances.by_instance_name(connection, proxy_name)
    try:
        session = console_sessions.by_uuid(connection, session_id)
    except NotFoundError:
        raise ConsoleDeniedError(_ending_of(connection, proxy, session_id)) from None
    expired = session.session_expires is None or session.session_expires <= now()
    if session.proxy_id != proxy.id or session.acquired is None or expired:
        raise ConsoleDeniedError(ConsoleRefusal.SESSION_ENDED)
    _watched(connection, session)
    return session


def _ending_of(connection: Connection, proxy: Instance, session_id: str) -> ConsoleRefusal:
    """Return the reason for which the daemon ended a session of this CPVM."""
    row = console_sessions.find_any(connection, session_id)
    if row is None or row.proxy_id != proxy.id:
        return ConsoleRefusal.SESSION_ENDED
    return _ENDINGS.get(row.close_reason or "", ConsoleRefusal.SESSION_ENDED)


def _running(connection: Connection, session: ConsoleSessionRow) -> Instance:
    vm = instances.by_id(connection, session.vm_id)
    if vm.removed is not None or vm.state.is_gone:
        raise ConsoleDeniedError(ConsoleRefusal.MACHINE_GONE)
    if vm.state is not InstanceState.RUNNING or not vm.has_screen:
        raise ConsoleDeniedError(_NOT_RUNNING.get(vm.state, ConsoleRefusal.MACHINE_STOPPED))
    if session.kind is ConsoleKind.SERIAL and vm.serial_port is None:
        raise ConsoleDeniedError(ConsoleRefusal.SESSION_ENDED)  # it was started again without one
    return vm


def close_session(connection: Connection, proxy_name: str, closed: ConsoleClosed) -> None:
    """End a session of this CPVM; one that has ended stays as it is."""
    proxy = instances.by_instance_name(connection, proxy_name)
    row = console_sessions.find_any(connection, closed.session_id)
    if row is not None and row.proxy_id == proxy.id:
        console_sessions.close(
            connection,
            row.uuid,
            closed.reason[:MAX_REASON_LENGTH],
            code=closed.code,
            sent_bytes=closed.sent_bytes,
            received_bytes=closed.received_bytes,
        )


def set_load(connection: Connection, proxy_name: str, count: int) -> None:
    proxy = instances.by_instance_name(connection, proxy_name)
    if proxy.console_sessions != count:
        instances.update(connection, proxy.id, console_sessions=count)
