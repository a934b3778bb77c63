# SPDX-License-Identifier: Apache-2.0
"""The close codes of a console's WebSocket that its clients act on; `systemvm.cpvm.refusal` sends them.

1000 to 1015 are those of RFC 6455, section 7.4.1; ABNORMAL_CLOSURE is never sent.
"""

from __future__ import annotations

import enum


class ConsoleCloseCode(enum.IntEnum):
    """Why a console's connection ended, as far as a client decides on it."""

    NORMAL = 1000
    GOING_AWAY = 1001
    ABNORMAL_CLOSURE = 1006  # no close frame was received: the connection was lost
    SESSION_ENDED = 4407
    MACHINE_STOPPED = 4409
    SCREEN_CLOSED = 4410
    MACHINE_STOPPING = 4411
    MACHINE_STARTING = 4412
    CONTINUED_ELSEWHERE = 4418
    RECONNECTING = 4419
    SESSION_IDLE = 4422
    SESSION_OVER = 4423
    NOT_BACK = 4424
    TAKEN_OVER = 4425
    CLOSED = 4426
    SCREEN_MOVED = 4427
    TOO_MANY = 4429
    SERIAL_CLOSED = 4430
    SCREEN_UNREACHABLE = 4502
    DAEMON_AWAY = 4503
    SCREEN_SILENT = 4504
    SERIAL_UNREACHABLE = 4507


#: After these a client connects again by itself: the session waits for it.
TRANSIENT = frozenset(
    {
        ConsoleCloseCode.GOING_AWAY,
        ConsoleCloseCode.ABNORMAL_CLOSURE,
        ConsoleCloseCode.MACHINE_STOPPED,
        ConsoleCloseCode.SCREEN_CLOSED,
        ConsoleCloseCode.MACHINE_STOPPING,
        ConsoleCloseCode.MACHINE_STARTING,
        ConsoleCloseCode.RECONNECTING,
        ConsoleCloseCode.SCREEN_MOVED,
        ConsoleCloseCode.SERIAL_CLOSED,
        ConsoleCloseCode.SCREEN_UNREACHABLE,
        ConsoleCloseCode.DAEMON_AWAY,
        ConsoleCloseCode.SCREEN_SILENT,
        ConsoleCloseCode.SERIAL_UNREACHABLE,
    }
)
