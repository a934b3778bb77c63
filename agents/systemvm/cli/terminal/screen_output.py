# SPDX-License-Identifier: Apache-2.0
"""Standard output of a serial console, which can block: a terminal after Ctrl-S, a pipe that nobody reads.

A thread writes, because a descriptor that is shared with the shell must not become non-blocking. It is a
daemon thread: the program can end while it is blocked.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading


class ScreenOutput:
    """Writes one piece after another; whoever waits for `write` reads no more from the network meanwhile."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._pieces: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True, name="screen-output").start()

    async def write(self, data: bytes) -> None:
        """Raises: OSError when nobody reads any more."""
        if not data:
            return
        done: asyncio.Future[None] = self._loop.create_future()
        self._pieces.put((data, done))
        await done

    def _work(self) -> None:
        while True:
            data, done = self._pieces.get()
            error: OSError | None = None
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError as failed:
                error = failed
            try:
                self._loop.call_soon_threadsafe(_finish, done, error)
            except RuntimeError:  # the loop is closed: the program ends
                return


def _finish(done: asyncio.Future[None], error: OSError | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
