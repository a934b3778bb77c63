# SPDX-License-Identifier: Apache-2.0
"""A screen that sends without pause, and a reader that compares every byte."""

from __future__ import annotations

import random
import socket

from integration.cpvm_lab.hypervisor_peers import Greeting
from integration.cpvm_lab.vnc_server import FakeVncServer, shake_hands
from integration.cpvm_lab.wire import Connection


def pattern(seed: int, block: int) -> bytes:
    """Return 64 KiB that are unique for a screen and a position in its stream."""
    return random.Random(f"{seed}/{block}").randbytes(1 << 16)


def flood(seed: int, blocks: int, greet: Greeting = shake_hands) -> FakeVncServer:
    """Return a screen that sends `blocks` blocks of its pattern without pause, in pieces of all sizes."""

    def serve(connection: socket.socket) -> None:
        screen = greet(connection) or connection
        sizes = random.Random(seed)
        for block in range(blocks):
            data = pattern(seed, block)
            while data:
                size = sizes.choice((1, 125, 126, 1000, 65535, 65536))
                screen.sendall(data[:size])
                data = data[size:]
        screen.recv(1)

    return FakeVncServer(serve)


class FloodReader:
    """Compare every byte of a flood; pongs can come in between."""

    def __init__(self, connection: Connection, seed: int) -> None:
        self._connection = connection
        self._seed = seed
        self._block = 0
        self._got = bytearray()
        self.pongs: list[bytes] = []

    def read_to(self, block: int) -> None:
        while self._block < block:
            while len(self._got) < 1 << 16:
                opcode, payload = self._connection.frame()
                if opcode == 10:
                    self.pongs.append(payload)
                    continue
                assert opcode == 2
                self._got += payload
            expected = pattern(self._seed, self._block)
            assert bytes(self._got[: 1 << 16]) == expected, f"screen {self._seed}, block {self._block}"
            del self._got[: 1 << 16]
            self._block += 1
