# SPDX-License-Identifier: Apache-2.0
"""Writes decoded pieces in a thread of its own, so that decoding goes on while the store takes them.

Decompressing and writing an image each take about half of the time of a gzip download from a fast source.
"""

from __future__ import annotations

import threading
from queue import Queue

from systemvm.ssvm.resumable.sparse import SparseWriter

#: Pieces that wait, besides the one that is written. A decoder's piece has 1 MiB, and a mover little memory.
WAITING_PIECES = 2


class WriteBehind:
    """Takes an image in order, as the writer does that it gives it to.

    Only `bytes` wait: other buffers are the caller's, who may fill them again as soon as `write` returns.
    """

    def __init__(self, writer: SparseWriter) -> None:
        self._writer = writer
        self._waiting: Queue[bytes | None] = Queue(WAITING_PIECES)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None  # of the thread, which then discards what comes
        self.size_bytes = writer.size_bytes  # what waits is counted

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`.

        Raises: TransferError when the store fails, also with a piece before this one.
        """
        self._raise_error()
        self.size_bytes += len(data)
        if isinstance(data, bytes):
            self._begin()
            self._waiting.put(data)
        else:
            self._drain()
            self._writer.write(data)

    def flush(self) -> None:
        """Write all of `data` so far, and give the file its size; it is not durable yet."""
        self._drain()
        self._writer.flush()

    def finish(self) -> None:
        """Write the rest, and make the whole file durable."""
        self._drain()
        self._writer.finish()

    def close(self) -> None:
        """End the thread when it has written what waits; its failure is not raised."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="write-behind", daemon=True)
            self._thread.start()

    def _drain(self) -> None:
        self._waiting.join()
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (data := self._waiting.get()) is not None:
            try:
                if self._error is None:
                    self._writer.write(data)
            except BaseException as error:
                self._error = error
            finally:
                data = b""  # the memory of a piece is not kept until the next one
                self._waiting.task_done()
