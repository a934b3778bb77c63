# SPDX-License-Identifier: Apache-2.0
"""A name server that returns one address to the first query for a name, and another to later ones.

Arguments: ADDRESS:PORT to serve, the first address, the later address, the file for the number of queries.
"""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path

TYPE_A = 1


def answer(query: bytes, address: str | None) -> bytes:
    """Return a reply with an A record of lifetime 0, or without a record when there is no address."""
    end = query.index(b"\0", 12) + 5
    head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1 if address else 0, 0, 0)
    record = struct.pack("!HHHIH", 0xC00C, TYPE_A, 1, 0, 4) + socket.inet_aton(address) if address else b""
    return head + query[12:end] + record


def main() -> None:
    where, first, then, count_file = sys.argv[1:]
    host, _, port = where.rpartition(":")
    queries: dict[bytes, int] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.bind((host, int(port)))
        while True:
            query, sender = channel.recvfrom(2048)
            end = query.index(b"\0", 12) + 5
            name, kind = query[12 : end - 4], struct.unpack("!H", query[end - 4 : end - 2])[0]
            if kind != TYPE_A:
                channel.sendto(answer(query, None), sender)
                continue
            queries[name] = queries.get(name, 0) + 1
            Path(count_file).write_text(str(sum(queries.values())))
            channel.sendto(answer(query, first if queries[name] == 1 else then), sender)


if __name__ == "__main__":
    main()
