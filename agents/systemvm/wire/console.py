# SPDX-License-Identifier: Apache-2.0
"""Messages about consoles, between daemon and CPVMs."""

from __future__ import annotations

import enum

from attrs import field, frozen

from systemvm.wire.recording import RecordingOrder

CONSOLE_SETUP = "console.setup"  # daemon → agent: public certificate and advertised endpoint; idempotent
CONSOLE_AUTHORIZE = "console.authorize"  # agent → daemon: spends a token, atomically
CONSOLE_TARGET = "console.target"  # agent → daemon: where a session's VM is now, for every connection
CONSOLE_SCROLLBACK = "console.scrollback"  # agent → daemon: what a serial port showed before (protocol 3)
CONSOLE_CLOSED = "console.closed"  # agent → daemon: a call, the session row ends with it
CONSOLE_LOAD = "console.load"  # agent → daemon, notification
CONSOLE_LIST = "console.list"  # daemon → agent: the sessions that it has (protocol 2)
CONSOLE_END = "console.end"  # daemon → agent: sessions that have ended (protocol 2)
CONSOLE_RETARGET = "console.retarget"  # daemon → agent: where a VM's screen is now (protocol 3)
CONSOLE_DRAIN = "console.drain"  # daemon → agent: take no new session, and end by a time (protocol 3)
CONSOLE_CONFIGURE = "console.configure"  # daemon → agent: limits and times of sessions (protocol 3)

CONSOLE_HOSTS = "console.hosts"  # daemon → agent: hosts whose consoles it may reach (protocol 3)
CONSOLE_POWER = (
    "console.power"  # agent → daemon: power state of a session's VM, and changes of it (protocol 3)
)


class ConsoleRefusal(enum.Enum):
    """Why the daemon refuses `console.authorize` or `console.target`, or ends a session.

    Sent as `{"reason": fallback value, "code": value}` in the data of a REFUSED error, and as `code` of
    `console.end`; the CPVM turns it into a page or a close code.
    """

    TOKEN_UNKNOWN = "token_unknown"
    TOKEN_USED = "token_used"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_REPLACED = "token_replaced"  # a newer one of the same user and VM, or too many of the account
    SESSION_ENDED = "session_ended"  # removed, or its lifetime is over, or it belongs to another CPVM
    MACHINE_STOPPED = "machine_stopped"
    MACHINE_STOPPING = "machine_stopping"
    MACHINE_STARTING = "machine_starting"
    MACHINE_GONE = "machine_gone"
    LOGGED_OUT = "logged_out"  # the login that asked for the console was ended by its user
    ACCESS_REVOKED = "access_revoked"  # user or account was disabled or deleted
    TAKEN_OVER = "taken_over"  # another link to the VM was opened that takes its console over
    CLOSED = "closed"  # by endConsoleSession
    OTHER_SOURCE = "other_source"  # the link came from another address than the one that asked for it
    SCREEN_UNREACHABLE = (
        "screen_unreachable"  # the API of its host, XenServer or vCenter, has none for it now
    )
    EXTRA_REFUSED = "extra_refused"  # the additional secret is missing or wrong; the link is void
    NOT_RECORDED = "not_recorded"  # it must be recorded, and cannot be now
    POWER_REFUSED = "power_refused"  # the session may not do this to its VM, or not in its present state
    WATCHED_ENDED = "watched_ended"  # the session that this one watches has ended

    @property
    def fallback(self) -> ConsoleRefusal:
        """The nearest reason that CPVMs of the first release know."""
        return _FALLBACKS.get(self, self)


_FALLBACKS = {
    ConsoleRefusal.TOKEN_REPLACED: ConsoleRefusal.TOKEN_EXPIRED,
    ConsoleRefusal.MACHINE_STOPPING: ConsoleRefusal.MACHINE_STOPPED,
    ConsoleRefusal.MACHINE_STARTING: ConsoleRefusal.MACHINE_STOPPED,
    ConsoleRefusal.LOGGED_OUT: ConsoleRefusal.SESSION_ENDED,
    ConsoleRefusal.ACCESS_REVOKED: ConsoleRefusal.SESSION_ENDED,
    ConsoleRefusal.TAKEN_OVER: ConsoleRefusal.SESSION_ENDED,
    ConsoleRefusal.CLOSED: ConsoleRefusal.SESSION_ENDED,
    ConsoleRefusal.OTHER_SOURCE: ConsoleRefusal.TOKEN_UNKNOWN,
    ConsoleRefusal.EXTRA_REFUSED: ConsoleRefusal.TOKEN_UNKNOWN,
    ConsoleRefusal.SCREEN_UNREACHABLE: ConsoleRefusal.MACHINE_STOPPED,
    ConsoleRefusal.NOT_RECORDED: ConsoleRefusal.SESSION_ENDED,
    ConsoleRefusal.POWER_REFUSED: ConsoleRefusal.SESSION_ENDED,
    ConsoleRefusal.WATCHED_ENDED: ConsoleRefusal.SESSION_ENDED,
}


@frozen
class ConsoleSetup:
    """How browsers reach this CPVM: every URL, Host check and Origin check comes from `origin`."""

    origin: str  # e.g. https://127.0.0.1:8443, or https://cloud.example.test/consoles behind a proxy
    certificate_pem: str = field(repr=False)  # leaf first, then the chain
    private_key_pem: str = field(repr=False)
    trusted_proxies: list[str] = field(factory=list)  # networks whose X-Forwarded-For counts
    bind_address: bool = False  # a browser's cookie only works from the address that spent its token


@frozen
class ConsoleAuthorize:
    token: str = field(repr=False)
    client_address: str
    request_id: str
    extra: str = field(default="", repr=False)  # the additional secret of the link
    with_target: bool = False  # answer the screen, too: the client connects to it at once (protocol 3)


@frozen
class SessionLimits:
    """Limits and times of a CPVM's sessions. 0 s means never, or no warning and no second connection."""

    max_sessions: int = 50
    idle_timeout_s: float = 300.0  # without input of the user
    warning_s: float = 60.0  # before a timeout
    reconnect_s: float = 60.0  # for a browser that lost its connection
    total_timeout_s: float = 4 * 3600.0
    tells_watched: bool = True  # whether users are told that an administrator watches their session


@frozen
class ConsolePolicy:
    """What a session may do; the CPVM enforces it by reading the session's messages (protocol 3)."""

    view_only: bool = False
    clipboard_to_guest: bool = True
    clipboard_from_guest: bool = True

    @property
    def is_unrestricted(self) -> bool:
        return self == UNRESTRICTED

    def narrowed(self, other: ConsolePolicy) -> ConsolePolicy:
        """Return the policy that permits what both permit."""
        return ConsolePolicy(
            view_only=self.view_only or other.view_only,
            clipboard_to_guest=self.clipboard_to_guest and other.clipboard_to_guest,
            clipboard_from_guest=self.clipboard_from_guest and other.clipboard_from_guest,
        )


UNRESTRICTED = ConsolePolicy()


class ConsoleKind(enum.Enum):
    """What of a VM a console shows (protocol 3)."""

    SCREEN = "screen"  # by RFB
    SERIAL = "serial"  # the bytes of its first serial port, as they are


@frozen
class ConsoleSession:
    session_id: str
    virtual_machine_id: str
    display_name: str
    lifetime_s: float  # after which it ends, however much it is used
    policy: ConsolePolicy = UNRESTRICTED
    is_recorded: bool = False  # and its user is told so
    watches: str = ""  # the session of this CPVM that it watches, and ends with (protocol 3)
    target: ConsoleTarget | None = None  # None without `with_target`, from an older daemon, or if refused
    kind: ConsoleKind = ConsoleKind.SCREEN


@frozen
class ConsoleTargetRequest:
    session_id: str
    request_id: str


class TargetTransport(enum.Enum):
    """How a CPVM connects to a VNC server (protocol 3)."""

    TCP = "tcp"
    UNIX = "unix"  # `path` is the socket's
    WEBSOCKET = "websocket"  # QEMU's own, or ESXi's below /ticket/
    HTTP_CONNECT = "http_connect"  # XenServer and XCP-ng: CONNECT with a session's cookie


@frozen
class TargetTls:
    """TLS with a hypervisor, whose certificate must be issued by `ca_pem`, or have the fingerprint."""

    ca_pem: str = ""
    server_name: str = ""  # the DNS name or address in its certificate; empty: the target's host
    fingerprint: str = ""  # of the certificate, SHA-256 or SHA-1, hexadecimal; colons are ignored
    certificate_pem: str = field(default="", repr=False)  # that the CPVM presents, a serial port's admission
    private_key_pem: str = field(default="", repr=False)


@frozen
class ConsoleTarget:
    """Where a VM's screen or serial port is, and how it is protected.

    A CPVM accepts nothing less than is set here.
    """

    host: str  # an IP address
    port: int
    password: str | None = field(repr=False)
    transport: TargetTransport = TargetTransport.TCP
    path: str = field(default="", repr=False)  # of a UNIX socket or a URL; ESXi's contains a ticket
    session_id: str | None = field(default=None, repr=False)  # of XAPI
    transport_tls: TargetTls | None = None  # TLS before RFB: wss, or HTTPS for CONNECT
    vencrypt: TargetTls | None = None  # TLS within RFB: VeNCrypt's X509None, X509Vnc or X509Plain
    username: str | None = None  # with a password: X509Plain
    recording: RecordingOrder | None = None  # the connection is recorded
    kind: ConsoleKind = ConsoleKind.SCREEN


@frozen
class ConsoleScrollback:
    """The end of what a VM has written to its serial port, whoever read it then."""

    text: bytes = field(repr=False)


@frozen
class ConsoleClosed:
    session_id: str
    reason: str
    code: str = ""  # why, for programs (protocol 3)
    sent_bytes: int = 0  # to the browser
    received_bytes: int = 0


@frozen
class ConsoleLoad:
    session_ids: list[str]


@frozen
class ConsoleRetarget:
    """A VM's screen is at this address; consoles that are connected to another one connect again."""

    virtual_machine_id: str
    host: str
    port: int
    serial_port: int = 0  # the TCP port that its serial port is at; 0: none


@frozen
class ConsoleHosts:
    """All addresses of hosts that no daemon drives; consoles of their VMs are at port 443 (protocol 3)."""

    addresses: list[str]


class PowerAction(enum.Enum):
    """What a console's user does to the VM; the last two do not ask the guest."""

    START = "start"
    REBOOT = "reboot"
    STOP = "stop"
    RESET = "reset"
    TURN_OFF = "turn_off"


@frozen
class ConsolePower:
    """Change the power of a session's VM, or only ask for its state."""

    session_id: str
    request_id: str
    client_address: str
    action: PowerAction | None = None


@frozen
class MachinePower:
    """A VM's state by CloudStack's name, and what the session may do now."""

    state: str
    actions: list[PowerAction] = field(factory=list)


@frozen
class ConsoleDrain:
    """Take no new session; those that are open end after `deadline_s`. Without a deadline it is undone."""

    deadline_s: float | None = None


@frozen
class LiveSession:
    """What a CPVM knows about a session now."""

    session_id: str
    client_address: str
    is_connected: bool  # false while it waits for its browser
    idle_s: float  # since the last input of its user
    sent_bytes: int  # to the browser
    received_bytes: int


@frozen
class ConsoleSessions:
    """Every session that a CPVM would let a browser connect to."""

    session_ids: list[str]
    live: list[LiveSession] = field(factory=list)  # the same sessions (protocol 3)


@frozen
class ConsoleEnd:
    session_ids: list[str]
    reason: str  # for the log
    code: str = ""  # a ConsoleRefusal's value; the first release names none
