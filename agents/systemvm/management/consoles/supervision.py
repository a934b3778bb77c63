# SPDX-License-Identifier: Apache-2.0
"""Links by which an administrator watches the console that somebody has open.

The link opens a session of its own at the same CPVM: it has its own connection to the screen, takes no input,
carries no clipboard, and ends with the session that it watches.
"""

from __future__ import annotations

from collections.abc import Callable

from systemvm.management.configurations import console as settings
from systemvm.management.consoles.endpoint import (
    ConsoleEndpoint,
    ConsoleUnavailableError,
    ConsoleUser,
    SourceUnknownError,
    check_extra,
    create_session,
    public_address_of,
)
from systemvm.management.consoles.token import new_token, token_hash
from systemvm.management.control.agent_calls import ConnectedAgents
from systemvm.management.state import accounts, console_sessions, instances
from systemvm.management.state.console_sessions import ConsoleSessionRow
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.rows import NotFoundError
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.console import ConsolePolicy
from systemvm.wire.protocol import POLICIES_SINCE
from systemvm.wire.role import Role
from systemvm.wire.vm_name import VmName

#: What passes: the screen, nothing else.
WATCHING = ConsolePolicy(view_only=True, clipboard_to_guest=False, clipboard_from_guest=False)
_LIST_HINT = 'See the open ones: "systemvm console list".'


class ConsoleSupervision:
    """Creates these links; the caller checks that they are for an administrator."""

    def __init__(
        self, database: Database, agents: ConnectedAgents, endpoint_of: Callable[[int, str], PublicEndpoint]
    ) -> None:
        self._database = database
        self._agents = agents
        self._endpoint_of = endpoint_of  # by zone id and the CPVM's public address

    async def watch_session(self, uuid: str, watcher: ConsoleUser) -> ConsoleEndpoint:
        """Return a link to the session with this id.

        Raises: ConsoleUnavailableError when it is not open, or its CPVM takes no new session.
        """
        return await self._create(lambda connection: _session(connection, uuid), watcher)

    async def watch_machine(self, vm_uuid: str, watcher: ConsoleUser) -> ConsoleEndpoint:
        """Return a link to the only open session of a VM.

        Raises: ConsoleUnavailableError when there is none, or more than one.
        """
        return await self._create(lambda connection: _session_of_machine(connection, vm_uuid), watcher)

    async def _create(
        self, find: Callable[[Connection], ConsoleSessionRow], watcher: ConsoleUser
    ) -> ConsoleEndpoint:
        enforcing = {VmName(name) for name in self._agents.up(Role.CPVM, POLICIES_SINCE)}
        token = new_token()
        try:
            zone_id, public_address = await self._database.run(
                _create_link, find, watcher, enforcing, token_hash(token)
            )
        except SourceUnknownError as error:
            error.endpoint = self._endpoint_of(error.zone_id, error.public_address)
            raise
        return ConsoleEndpoint.of(self._endpoint_of(zone_id, public_address), token, watcher.extra)


def _session(connection: Connection, uuid: str) -> ConsoleSessionRow:
    row = console_sessions.find_any(connection, uuid)
    if row is None or row.removed is not None or row.acquired is None:
        raise ConsoleUnavailableError(f"there is no open console session {uuid}", _LIST_HINT)
    if row.watches is not None:
        raise ConsoleUnavailableError(
            f"console session {uuid} watches another one", f"Watch that one: {row.watches}."
        )
    return row


def _session_of_machine(connection: Connection, vm_uuid: str) -> ConsoleSessionRow:
    try:
        vm = instances.by_uuid(connection, vm_uuid)
    except NotFoundError:
        raise ConsoleUnavailableError(f"Cannot find VM with ID {vm_uuid}") from None
    found = console_sessions.watchable(connection, vm.id)
    if not found:
        raise ConsoleUnavailableError(f"nobody has the console of {vm.shown_name} open", _LIST_HINT)
    if len(found) > 1:
        sessions = ", ".join(row.uuid for row in found)
        raise ConsoleUnavailableError(
            f"{len(found)} sessions of {vm.shown_name} are open", f"Name one of them: {sessions}."
        )
    return found[0]


def _create_link(
    connection: Connection,
    find: Callable[[Connection], ConsoleSessionRow],
    watcher: ConsoleUser,
    enforcing: set[VmName],
    hashed_token: str,
) -> tuple[int, str]:
    """Create the row of the session that watches; return its zone and the public address of its CPVM."""
    console_sessions.expire(connection)
    watched = find(connection)
    vm = instances.by_id(connection, watched.vm_id)
    configured = settings.of_zone(connection, vm.zone_id)
    check_extra(watcher.extra, configured.requires_extra)
    proxy = instances.by_id(connection, watched.proxy_id or 0)
    if VmName(proxy.instance_name) not in enforcing or proxy.drain_until is not None:
        why = "takes no new session" if proxy.drain_until is not None else "is not connected, or too old"
        raise ConsoleUnavailableError(
            f"console proxy {proxy.instance_name} {why}",
            f'See "systemvm system-vm why {proxy.instance_name}".',
        )
    # its events belong to the watcher: whether the user is told is the zone's to say
    user = accounts.user_by_id(connection, watcher.user_id)
    create_session(
        connection, watcher, vm, proxy, hashed_token, configured,
        text=f"a link for {watcher.address} that watches session {watched.uuid}",
        kind=watched.kind, account_id=user.account_id, domain_id=user.domain_id, policy=WATCHING,
        watches=watched.uuid,
    )  # fmt: skip
    return vm.zone_id, public_address_of(connection, proxy)
