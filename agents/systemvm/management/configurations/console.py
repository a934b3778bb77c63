# SPDX-License-Identifier: Apache-2.0
"""The settings of consoles, with CloudStack's names and units where it has them.

`consoleproxy.session.timeout` ends a session whose user sends no input; CloudStack does not honour it for
noVNC. `consoleproxy.extra.security.validation.enabled` makes `token` of createConsoleEndpoint mandatory; a
token that was given is always checked.
"""

from __future__ import annotations

from attrs import frozen

from systemvm.management.configurations.setting import Setting
from systemvm.management.state import configurations
from systemvm.management.state.database import Connection
from systemvm.management.state.status import RecordingMode
from systemvm.wire.console import ConsolePolicy, SessionLimits

_WEEK_MS = 7 * 86_400_000

SESSION_MAX = Setting(
    name="consoleproxy.session.max",
    default=50,
    least=1,
    most=2000,
    description="how many sessions a console proxy VM has at most",
)
SESSION_TIMEOUT = Setting(
    name="consoleproxy.session.timeout",
    default=300_000,
    most=_WEEK_MS,
    unit="ms",
    description="milliseconds without keyboard, pointer or clipboard input after which a session ends; "
    "0: never",
)
TOTAL_TIMEOUT = Setting(
    name="consoleproxy.session.total.timeout",
    default=4 * 3_600_000,
    least=60_000,
    most=_WEEK_MS,
    unit="ms",
    description="milliseconds after which a session ends, however much it is used",
)
WARNING = Setting(
    name="consoleproxy.session.timeout.warning",
    default=60_000,
    most=3_600_000,
    unit="ms",
    description="milliseconds before a timeout at which the console warns its user; 0: no warning",
)
RECONNECT_WINDOW = Setting(
    name="consoleproxy.session.reconnect.window",
    default=60_000,
    most=600_000,
    unit="ms",
    description="milliseconds within which a browser that lost its connection comes back to its session; "
    "0: the session ends with its connection",
)
TOKEN_LIFETIME = Setting(
    name="consoleproxy.session.token.lifetime",
    default=60_000,
    least=5_000,
    most=600_000,
    unit="ms",
    description="milliseconds within which a new console link must be opened",
)
SOURCE_IP_CHECK = Setting(
    name="novnc.console.sourceip.check.enabled",
    default=False,
    description="a console link works only from the address that asked for it",
)
EXTRA_SECURITY = Setting(
    name="consoleproxy.extra.security.validation.enabled",
    default=False,
    description="createConsoleEndpoint requires its parameter token, which the browser must also present",
)
VIEW_ONLY = Setting(
    name="consoleproxy.view.only",
    default=False,
    description="new console links show the screen and take no input",
)
CLIPBOARD_TO_GUEST = Setting(
    name="consoleproxy.clipboard.to.guest.enabled",
    default=True,
    description="consoles of new links may send text from the browser to the guest",
)
CLIPBOARD_FROM_GUEST = Setting(
    name="consoleproxy.clipboard.from.guest.enabled",
    default=True,
    description="consoles of new links may send text from the guest to the browser",
)
RECORDING = Setting(
    name="consoleproxy.recording.enabled",
    default=False,
    description="consoles of new links are recorded, unless their VM or account has a rule of its own",
)
RECORDING_REQUIRED = Setting(
    name="consoleproxy.recording.required",
    default=False,
    description="with consoleproxy.recording.enabled: a console that cannot be recorded is closed",
)
RECORDING_NOTICE = Setting(
    name="consoleproxy.recording.notice.enabled",
    default=True,
    description="a console shows its user that it is recorded",
)
RECORDING_ENCRYPTION = Setting(
    name="consoleproxy.recording.encryption.enabled",
    default=False,
    description="new recordings are encrypted, each with a key of its own that only the daemon has",
)
RECORDING_RETENTION = Setting(
    name="consoleproxy.recording.retention",
    default=30,
    most=36_500,
    unit="days",
    description="days after which a recording is deleted; 0: never",
)
RECORDING_MAX_SIZE = Setting(
    name="consoleproxy.recording.max.size",
    default=1024,
    least=1,
    most=65_536,
    unit="MiB",
    description="MiB at which the recording of a connection ends",
)
TELLS_WATCHED = Setting(
    name="consoleproxy.supervision.notice.enabled",
    default=True,
    description="users are told while an administrator watches their console",
)
DRAIN_TIMEOUT = Setting(
    name="consoleproxy.drain.timeout",
    default=3_600_000,
    most=86_400_000,
    unit="ms",
    description="milliseconds until the sessions of a drained console proxy end",
)

CONSOLE_SETTINGS = (
    SESSION_MAX,
    SESSION_TIMEOUT,
    TOTAL_TIMEOUT,
    WARNING,
    RECONNECT_WINDOW,
    TOKEN_LIFETIME,
    SOURCE_IP_CHECK,
    EXTRA_SECURITY,
    VIEW_ONLY,
    CLIPBOARD_TO_GUEST,
    CLIPBOARD_FROM_GUEST,
    RECORDING,
    RECORDING_REQUIRED,
    RECORDING_NOTICE,
    RECORDING_ENCRYPTION,
    RECORDING_RETENTION,
    RECORDING_MAX_SIZE,
    TELLS_WATCHED,
    DRAIN_TIMEOUT,
)


@frozen
class RecordingSettings:
    """Whether and how the consoles of a zone are recorded."""

    mode: RecordingMode  # of VMs and accounts without a rule
    is_announced: bool
    encrypts: bool
    retention_days: int  # 0: for ever
    max_bytes: int


@frozen
class ConsoleSettings:
    """The values of a zone."""

    limits: SessionLimits
    token_lifetime_s: float
    checks_source: bool
    requires_extra: bool
    policy: ConsolePolicy  # the most that a new link may permit
    recording: RecordingSettings
    drain_timeout_s: float


def of_zone(connection: Connection, zone_id: int | None) -> ConsoleSettings:
    """Return what holds for the consoles of a zone now."""
    changed = configurations.values(connection, zone_id)

    def value(setting: Setting) -> int:
        return int(setting.value_in(changed))

    return ConsoleSettings(
        limits=SessionLimits(
            max_sessions=value(SESSION_MAX),
            idle_timeout_s=value(SESSION_TIMEOUT) / 1000,
            warning_s=value(WARNING) / 1000,
            reconnect_s=value(RECONNECT_WINDOW) / 1000,
            total_timeout_s=value(TOTAL_TIMEOUT) / 1000,
            tells_watched=bool(value(TELLS_WATCHED)),
        ),
        token_lifetime_s=value(TOKEN_LIFETIME) / 1000,
        checks_source=bool(value(SOURCE_IP_CHECK)),
        requires_extra=bool(value(EXTRA_SECURITY)),
        policy=ConsolePolicy(
            view_only=bool(value(VIEW_ONLY)),
            clipboard_to_guest=bool(value(CLIPBOARD_TO_GUEST)),
            clipboard_from_guest=bool(value(CLIPBOARD_FROM_GUEST)),
        ),
        recording=RecordingSettings(
            mode=(
                RecordingMode.OFF
                if not value(RECORDING)
                else RecordingMode.REQUIRED
                if value(RECORDING_REQUIRED)
                else RecordingMode.ON
            ),
            is_announced=bool(value(RECORDING_NOTICE)),
            encrypts=bool(value(RECORDING_ENCRYPTION)),
            retention_days=value(RECORDING_RETENTION),
            max_bytes=value(RECORDING_MAX_SIZE) << 20,
        ),
        drain_timeout_s=value(DRAIN_TIMEOUT) / 1000,
    )
