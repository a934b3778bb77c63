# SPDX-License-Identifier: Apache-2.0
"""A name server that changes its mind: the first question for an address gets one answer, later ones another.

Arguments: ADDRESS:PORT to answer on, the first address, the address from then on, the file for the count of
questions.
"""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path

TYPE_A = 1


def answer(query: bytes, address: str | None) -> bytes:
    """The question again, and an A record with a lifetime of nothing if there is an address."""
    end = query.index(b"\0", 12) + 5
    head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1 if address else 0, 0, 0)
    record = struct.pack("!HHHIH", 0xC00C, TYPE_A, 1, 0, 4) + socket.inet_aton(address) if address else b""
    return head + query[12:end] + record


def main() -> None:
    where, first, then, count_file = sys.argv[1:]
    host, _, port = where.rpartition(":")
    asked: dict[bytes, int] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.bind((host, int(port)))
        while True:
            query, sender = channel.recvfrom(2048)
            end = query.index(b"\0", 12) + 5
            name, kind = query[12 : end - 4], struct.unpack("!H", query[end - 4 : end - 2])[0]
            if kind != TYPE_A:
                channel.sendto(answer(query, None), sender)
                continue
            asked[name] = asked.get(name, 0) + 1
            Path(count_file).write_text(str(sum(asked.values())))
            channel.sendto(answer(query, first if asked[name] == 1 else then), sender)


if __name__ == "__main__":
    main()
