# SPDX-License-Identifier: Apache-2.0
"""Writes an image once, in order, without its zeros, and without filling the page cache."""

from __future__ import annotations

import os

from systemvm.ssvm.failure import of_store

BLOCK_BYTES = 64 * 1024
_ZEROS = bytes(BLOCK_BYTES)


def _is_zero(data: memoryview, start: int) -> bool:
    """Return whether a block is all zeros; the first byte of most others decides, without a copy of them."""
    # comparing bytes with bytes is twice as fast as comparing a view
    return not data[start] and bytes(data[start : start + BLOCK_BYTES]) == _ZEROS


class SparseWriter:
    """Zeros become holes. It continues a file at `size_bytes`, behind which it has only holes."""

    def __init__(self, descriptor: int, size_bytes: int = 0) -> None:
        self._descriptor = descriptor
        self._tail = b""
        self.size_bytes = size_bytes  # of the file, holes included
        self.written_bytes = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`.

        Raises: TransferError when the store fails.
        """
        view = memoryview(data)
        missing_bytes = -(self.size_bytes + len(self._tail)) % BLOCK_BYTES
        if missing_bytes:  # a piece before this one, or a flush, ended within a block
            self._tail += view[:missing_bytes]
            if len(view) < missing_bytes:
                return
            self._put_unless_zero(self._tail)
            self._tail = b""
            view = view[missing_bytes:]
        whole = len(view) - len(view) % BLOCK_BYTES
        start = 0
        while start < whole:
            if _is_zero(view, start):
                start += BLOCK_BYTES
                self.size_bytes += BLOCK_BYTES
                continue
            end = start + BLOCK_BYTES
            while end < whole and not _is_zero(view, end):
                end += BLOCK_BYTES
            self._put(view[start:end])
            start = end
        self._tail = bytes(view[whole:])

    def flush(self) -> None:
        """Write all of `data` so far, and give the file its size; it is not durable yet."""
        self._put_unless_zero(self._tail)
        self._tail = b""
        try:
            os.ftruncate(self._descriptor, self.size_bytes)
        except OSError as error:
            raise of_store(error, f"writing the image at byte {self.size_bytes}") from None

    def finish(self) -> None:
        """Write the rest, and make the whole file durable."""
        self.flush()
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise of_store(error, "making the image durable") from None

    def _put_unless_zero(self, data: bytes) -> None:
        if data.strip(b"\0"):
            self._put(memoryview(data))
        else:
            self.size_bytes += len(data)

    def _put(self, data: memoryview) -> None:
        try:
            while data:
                count = os.pwrite(self._descriptor, data, self.size_bytes)
                self.size_bytes += count
                self.written_bytes += count
                data = data[count:]
        except OSError as error:
            raise of_store(error, f"writing the image at byte {self.size_bytes}") from None
