# SPDX-License-Identifier: Apache-2.0
"""Standard input of a serial console: a terminal's keys, or a pipe's or a file's bytes to their end."""

from __future__ import annotations

import asyncio
import os

_PIECE_BYTES = 4096
#: What was read and not sent, as while the console reconnects; then reading stops.
_MOST_WAITING_BYTES = 64 * 1024


class KeyboardInput:
    """Reads while there is room; `escape` is the byte after which `escaped` is set and nothing is read."""

    def __init__(self, descriptor: int, escape: int | None) -> None:
        self.escaped = asyncio.Event()
        self._descriptor = descriptor
        self._escape = escape if os.isatty(descriptor) else None
        self._loop = asyncio.get_running_loop()
        self._waiting = bytearray()
        self._ended = False
        self._is_reading = False
        self._is_watched = False  # by the loop
        self._changed = asyncio.Event()

    def start(self) -> None:
        """Read until there is no more room; a regular file is always ready, and epoll refuses it."""
        if self._is_reading or self._ended:
            return
        self._is_reading = True
        try:
            self._loop.add_reader(self._descriptor, self._readable)
            self._is_watched = True
        except PermissionError:
            self._loop.call_soon(self._readable)

    def stop(self) -> None:
        self._is_reading = False
        if self._is_watched:
            self._is_watched = False
            self._loop.remove_reader(self._descriptor)

    def _readable(self) -> None:
        if not self._is_reading:
            return
        try:
            data = os.read(self._descriptor, _PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:  # the terminal is gone
            data = b""
        if self._escape is not None and self._escape in data:
            data = data[: data.index(self._escape)]
            self.escaped.set()
        self._waiting += data
        self._ended = not data or self.escaped.is_set()
        self._changed.set()
        if self._ended or len(self._waiting) >= _MOST_WAITING_BYTES:
            self.stop()
        elif not self._is_watched:
            self._loop.call_soon(self._readable)

    async def read(self) -> bytes:
        """Return what was read, or nothing at the end. A call that is cancelled loses nothing."""
        while not self._waiting and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        data = bytes(self._waiting)
        self._waiting.clear()
        self.start()
        return data
