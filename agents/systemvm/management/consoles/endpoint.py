# SPDX-License-Identifier: Apache-2.0
"""createConsoleEndpoint: checks the permission, chooses a CPVM and creates a one-time URL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote

from attrs import field, frozen

from systemvm.management.configurations import console as settings
from systemvm.management.consoles.token import (
    MAX_UNSPENT_OF_ACCOUNT,
    MAX_UNSPENT_OF_VM,
    new_token,
    token_hash,
)
from systemvm.management.control.agent_calls import ConnectedAgents
from systemvm.management.recordings.orders import mode_for
from systemvm.management.state import console_revocations, console_sessions, instances
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import InstanceState, InstanceType, RecordingMode
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.console import UNRESTRICTED, ConsoleKind, ConsolePolicy
from systemvm.wire.protocol import OLDEST, POLICIES_SINCE
from systemvm.wire.role import Role
from systemvm.wire.vm_name import VmName

#: A CPVM reports its sessions every 5 s: a token that was spent longer ago is in its report.
LOAD_REPORTED_WITHIN = timedelta(seconds=10)
WEBSOCKET_PATH = "websockify"
MAX_EXTRA_LENGTH = 256


_NONE_UP = 'No console proxy VM of the zone is Up; see "systemvm system-vm list" for the reason.'
_DRAINED = 'The console proxy VMs of the zone are drained; undo it: "systemvm system-vm drain NAME --cancel".'


class ConsoleUnavailableError(SystemVmError):
    """A console that cannot be opened; CloudStack answers this as success=false."""

    code = FailureCode.UNAVAILABLE


class SourceUnknownError(ConsoleUnavailableError):
    """A link that nobody could open: it works only from one address, and nobody has named that.

    A program on the same host can find its own address by `endpoint`, to which it connects.
    """

    def __init__(self, zone_id: int, public_address: str) -> None:
        super().__init__(
            "address of the link's browser is not known, and novnc.console.sourceip.check.enabled is true",
            "Name it: clientaddress of the call, --from of systemvm console.",
        )
        self.zone_id = zone_id
        self.public_address = public_address
        self.endpoint: PublicEndpoint | None = None


@frozen
class ConsoleUser:
    """The caller of createConsoleEndpoint."""

    user_id: int
    account_id: int
    is_admin: bool
    address: str
    request_id: str | None = None
    login_uuid: str | None = None  # None with an API key or as the host's operator
    extra: str | None = field(default=None, repr=False)  # a secret that the browser must also present
    takes_over: bool = False  # other consoles of the VM, of this kind, end when the link is opened
    keyboard: str | None = None  # the guest's layout; by default the VM's
    kind: ConsoleKind = ConsoleKind.SCREEN
    beneath: frozenset[int] = frozenset()  # of a domain administrator: further accounts

    def can_open(self, vm: Instance) -> bool:
        """Return whether the user can open a VM: administrators all VMs, others those of their accounts."""
        is_own = vm.account_id == self.account_id or vm.account_id in self.beneath
        return self.is_admin or (vm.type is InstanceType.USER and is_own)


@frozen
class ConsoleEndpoint:
    """The one-time address of a console."""

    url: str = field(repr=False)
    token: str = field(repr=False)
    host: str
    port: int
    path: str = WEBSOCKET_PATH
    extra: str | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls, endpoint: PublicEndpoint, token: str, extra: str | None, keyboard: str | None = None
    ) -> ConsoleEndpoint:
        """Derive everything from the advertised endpoint; the token needs no encoding in a URL."""
        more = "" if extra is None else f"&extra={quote(extra, safe='')}"
        if keyboard is not None:
            more += f"&language={keyboard}"  # CloudStack's name of it in a URL
        return cls(
            url=f"{endpoint.url}/console?cmd=auth&token={token}{more}",
            token=token,
            host=endpoint.host,
            port=endpoint.port,
            path=f"{endpoint.path}/{WEBSOCKET_PATH}".lstrip("/"),
            extra=extra,
        )


@frozen
class _Proxies:
    """The CPVMs that are Up, and those of them that enforce policies and reach screens with TLS."""

    up: set[VmName]
    enforcing: set[VmName]

    def of(
        self, policy: ConsolePolicy, recording: RecordingMode, vm: Instance, kind: ConsoleKind
    ) -> set[VmName]:
        is_recorded, is_serial = recording is not RecordingMode.OFF, kind is ConsoleKind.SERIAL
        has_newer_target = vm.vnc_ca_pem is not None or not vm.is_driven or is_serial
        needs_newer = has_newer_target or is_recorded or not policy.is_unrestricted
        return self.enforcing if needs_newer else self.up


class ConsoleEndpoints:
    """Creates console sessions that wait until their token is spent."""

    def __init__(
        self, database: Database, agents: ConnectedAgents, endpoint_of: Callable[[int, str], PublicEndpoint]
    ) -> None:
        self._database = database
        self._agents = agents
        self._endpoint_of = endpoint_of  # by zone id and the CPVM's public address

    async def create(
        self, vm_uuid: str, console_user: ConsoleUser, wanted: ConsolePolicy = UNRESTRICTED
    ) -> ConsoleEndpoint:
        """Return a URL for one browser, whose session may do what `wanted` and the zone permit.

        Raises: ConsoleUnavailableError with CloudStack's message when there is no console.
        """
        up, enforcing = (
            {VmName(name) for name in self._agents.up(Role.CPVM, since)} for since in (OLDEST, POLICIES_SINCE)
        )
        token = new_token()
        try:
            zone_id, public_address, of_vm = await self._database.run(
                _create, vm_uuid, console_user, wanted, _Proxies(up, enforcing), token_hash(token)
            )
        except SourceUnknownError as error:
            error.endpoint = self._endpoint_of(error.zone_id, error.public_address)
            raise
        endpoint = self._endpoint_of(zone_id, public_address)
        return ConsoleEndpoint.of(endpoint, token, console_user.extra, console_user.keyboard or of_vm)


def _create(
    connection: Connection,
    vm_uuid: str,
    console_user: ConsoleUser,
    wanted: ConsolePolicy,
    proxies: _Proxies,
    hashed_token: str,
) -> tuple[int, str, str | None]:
    """Create the session's row; return its zone, the public address of its CPVM, and the VM's keyboard."""
    console_sessions.expire(connection)
    vm = find_openable(connection, vm_uuid, console_user)
    configured = settings.of_zone(connection, vm.zone_id)
    check_extra(console_user.extra, configured.requires_extra)
    if vm.state is not InstanceState.RUNNING:
        raise ConsoleUnavailableError(
            f"VM {vm.name} must be running to connect console, it is {vm.state.value}", vm.reason or ""
        )
    if not vm.has_screen:
        raise ConsoleUnavailableError(
            f"VM {vm.name} has no VNC server", f"see its log: systemvm serial {vm.name}"
        )
    kind = console_user.kind
    if kind is ConsoleKind.SERIAL and vm.serial_port is None:
        raise ConsoleUnavailableError(
            f"VM {vm.name} has no serial port that a console can show",
            "Stop and start it: an earlier release started it, or hypervisor.vnc_tls was false.",
        )
    policy = wanted.narrowed(configured.policy)
    recording = mode_for(connection, vm)
    joined = console_sessions.serial_proxy(connection, vm.id) if kind is ConsoleKind.SERIAL else None
    able, most = proxies.of(policy, recording, vm, kind), configured.limits.max_sessions
    proxy = _least_loaded(connection, vm.zone_id, able, most, joined)
    what = "a link" if kind is ConsoleKind.SCREEN else "a link to its serial port"
    create_session(
        connection, console_user, vm, proxy, hashed_token, configured,
        text=f"{what} for {console_user.address}, good once, through {proxy.instance_name}",
        kind=kind, account_id=vm.account_id, domain_id=vm.domain_id, policy=policy, recording=recording,
        takes_over=console_user.takes_over,
    )  # fmt: skip
    return vm.zone_id, public_address_of(connection, proxy), vm.keyboard


def create_session(
    connection: Connection,
    console_user: ConsoleUser,
    vm: Instance,
    proxy: Instance,
    hashed_token: str,
    configured: settings.ConsoleSettings,
    *,
    text: str,
    kind: ConsoleKind,
    **more: Any,
) -> None:
    """Create the row of a session that waits for its link, in place of older ones of its user, and record it.

    `more` are the columns in which links differ: the account that it belongs to, and what it permits.

    Raises: SourceUnknownError when the link would work only from an address that is not known.
    """
    if configured.checks_source and not is_address(console_user.address):
        raise SourceUnknownError(vm.zone_id, public_address_of(connection, proxy))
    console_revocations.replace_unspent(
        connection,
        user_id=console_user.user_id,
        account_id=console_user.account_id,
        vm_id=vm.id,
        kind=kind,
        of_vm=MAX_UNSPENT_OF_VM,
        of_account=MAX_UNSPENT_OF_ACCOUNT,
    )
    session = console_sessions.create(
        connection,
        zone_id=vm.zone_id,
        user_id=console_user.user_id,
        vm_id=vm.id,
        proxy_id=proxy.id,
        token_hash=hashed_token,
        token_expires=now() + timedelta(seconds=configured.token_lifetime_s),
        extra_hash=None if console_user.extra is None else token_hash(console_user.extra),
        creator_address=console_user.address,
        login_uuid=console_user.login_uuid,
        kind=kind,
        **more,
    )
    console_sessions.record(
        connection, session, "LINK", f"of {vm.shown_name}: {text}", request_id=console_user.request_id
    )


def is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def check_extra(extra: str | None, is_required: bool) -> None:
    if extra is None and is_required:
        raise ConsoleUnavailableError(
            "Extra security validation is enabled, but the parameter token is missing",
            "Call createConsoleEndpoint with token, a secret of your choice for this link.",
        )
    if extra is not None and len(extra) > MAX_EXTRA_LENGTH:
        raise ConsoleUnavailableError(
            f"token is too long: {len(extra)} characters, the maximum is {MAX_EXTRA_LENGTH}",
            "Shorten token.",
        )


def public_address_of(connection: Connection, proxy: Instance) -> str:
    nic = instances.outside_nic(instances.nics_of(connection, proxy.id))
    if nic is not None and nic.reached_at:
        return nic.reached_at
    raise ConsoleUnavailableError(
        f"{proxy.instance_name} has no public address", "Destroy it: another one is created."
    )


def find_openable(connection: Connection, vm_uuid: str, console_user: ConsoleUser) -> Instance:
    """Return a VM whose console the user can open.

    Raises: ConsoleUnavailableError with CloudStack's message when there is none, or it is another account's.
    """
    try:
        vm = instances.by_uuid(connection, vm_uuid)
    except NotFoundError:
        raise ConsoleUnavailableError(f"Cannot find VM with ID {vm_uuid}") from None
    if not console_user.can_open(vm):
        raise ConsoleUnavailableError("Permission denied")
    return vm


def _least_loaded(
    connection: Connection, zone_id: int, up: set[VmName], max_sessions: int, preferred_id: int | None
) -> Instance:
    """Return the preferred CPVM if it has room, else the running one with the fewest sessions.

    Unspent tokens are included.

    Only open sessions count against the limit: a token costs nothing, and links that are never opened must
    not fill a CPVM. A closed session that a browser can resume for hours is no load.
    """
    running = [
        vm
        for vm in instances.list_system(connection, zone_id)
        if vm.type is InstanceType.CONSOLE_PROXY
        and vm.state is InstanceState.RUNNING
        and VmName(vm.instance_name) in up
    ]
    proxies = [vm for vm in running if vm.drain_until is None]
    if not proxies:
        raise ConsoleUnavailableError(
            "Console access will be ready in a few minutes. Please try it again later.",
            _DRAINED if running else _NONE_UP,
        )
    pending = console_sessions.pending_by_proxy(connection, now() - LOAD_REPORTED_WITHIN)
    none = console_sessions.PendingSessions()
    open_sessions = {vm.id: vm.console_sessions + pending.get(vm.id, none).just_opened for vm in proxies}
    with_room = [vm for vm in proxies if open_sessions[vm.id] < max_sessions]
    if not with_room:
        raise ConsoleUnavailableError(
            f"All console proxy VMs of the zone have {max_sessions} sessions",
            "Close unused consoles.",
        )
    for vm in with_room:
        if vm.id == preferred_id:
            return vm
    return min(with_room, key=lambda vm: (open_sessions[vm.id] + pending.get(vm.id, none).unspent, vm.id))
