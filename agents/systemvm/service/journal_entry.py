# SPDX-License-Identifier: Apache-2.0
"""One entry with fields for journald, in its native protocol; for programs without Twisted, too.

Only Python's own library is imported, and the socket module not before an entry is sent: `systemvm-preinit`
sends one when it fails, and a start that succeeds must not pay for that.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
PRIORITY_ERROR, PRIORITY_NOTICE = 3, 5


def encode(entry: Mapping[str, str]) -> bytes:
    """Encode by the journal's protocol: KEY=value lines, and a length before a value with a newline."""
    parts: list[bytes] = []
    for key, value in entry.items():
        data = value.encode("utf-8", "replace")
        if b"\n" in data:
            parts.append(key.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(key.encode() + b"=" + data + b"\n")
    return b"".join(parts)


def send(entry: Mapping[str, str], address: Path = SOCKET) -> None:
    """Hand one entry to journald; OSError when it does not take it."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.sendto(encode(entry), str(address))
