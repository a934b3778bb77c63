# SPDX-License-Identifier: Apache-2.0
"""Log events as journal entries with fields (`journalctl JOB_ID=…`), not only as text."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TextIO

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogBeginner
from zope.interface import implementer

from systemvm.service.journal_entry import SOCKET, encode
from systemvm.service.redaction import redact_urls

_MESSAGE_MAX_CHARACTERS = 16_384  # a datagram has a limit; the end of a long traceback matters most
_FIELD = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_PLAIN = (str, int, float)
_RESERVED = frozenset({"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "LOGGER"})
_PRIORITIES = {
    LogLevel.debug: 7,
    LogLevel.info: 6,
    LogLevel.warn: 4,
    LogLevel.error: 3,
    LogLevel.critical: 2,
}


def fields(event: LogEvent, identifier: str) -> dict[str, str]:
    """Return the journal fields of an event: its text and every plain value."""
    text = formatEvent(event)
    failure = event.get("log_failure")
    if failure is not None:
        text = f"{text}\n{failure.getTraceback()}"
    if len(text) > _MESSAGE_MAX_CHARACTERS:
        text = "… " + text[-_MESSAGE_MAX_CHARACTERS:]
    found = {
        "MESSAGE": redact_urls(text),
        "PRIORITY": str(_PRIORITIES.get(event.get("log_level"), 6)),
        "SYSLOG_IDENTIFIER": identifier,
        "LOGGER": str(event.get("log_namespace", "")),
    }
    for key, value in event.items():
        if isinstance(value, _PLAIN) and (name := _field_name(key)):
            found[name] = redact_urls(str(value))
    return found


@lru_cache(maxsize=1024)
def _field_name(key: str) -> str:
    """Return the field's name of a key of an event; empty when it becomes none."""
    name = key.upper()
    is_field = not key.startswith("log_") and _FIELD.fullmatch(name) and name not in _RESERVED
    return name if is_field else ""


@implementer(ILogObserver)
class JournalObserver:
    """Sends events of level info and above to journald; on failure to standard error."""

    def __init__(self, identifier: str, address: Path = SOCKET, fallback: TextIO = sys.stderr) -> None:
        self._identifier = identifier
        self._address = str(address)
        self._fallback = fallback
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._channel.setblocking(False)

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_level") is LogLevel.debug:
            return
        entry = fields(event, self._identifier)
        try:
            self._channel.sendto(encode(entry), self._address)
        except OSError:
            write_text(entry, self._fallback)


@implementer(ILogObserver)
class TextObserver:
    """Writes the same events as lines, for a terminal or a test."""

    def __init__(self, identifier: str, stream: TextIO = sys.stderr) -> None:
        self._identifier = identifier
        self._stream = stream

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_level") is not LogLevel.debug:
            write_text(fields(event, self._identifier), self._stream)


def write_text(entry: Mapping[str, str], stream: TextIO) -> None:
    """Write an entry as a line, and its hint as a second one: a terminal shows no journal fields."""
    stream.write(f"<{entry['PRIORITY']}>[{entry['LOGGER']}] {entry['MESSAGE']}\n")
    if hint := entry.get("HINT"):
        stream.write(f"hint:  {hint}\n")
    stream.flush()


def begin_logging(identifier: str, environment: Mapping[str, str]) -> None:
    """Log to the journal when systemd has connected this program to it, otherwise to standard error."""
    under_systemd = "JOURNAL_STREAM" in environment and SOCKET.exists()
    observer = JournalObserver(identifier) if under_systemd else TextObserver(identifier)
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
