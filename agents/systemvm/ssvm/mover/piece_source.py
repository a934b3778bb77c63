# SPDX-License-Identifier: Apache-2.0
"""Checks each piece of a file before anything of it is used, and fetches only a damaged one again.

A piece is held in memory until its digest is right, so nothing behind it has to be undone: digest, decoder
and image have only seen good bytes. The digest of the whole file is still what counts in the end.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Protocol

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.mover.byte_source import ByteSource, WrappedSource
from systemvm.ssvm.mover_messages import PieceDigests
from systemvm.wire.transfer_failure import TransferFailure

#: Of one piece, from as many mirrors if there are.
MAX_ATTEMPTS = 4


class RepeatableSource(ByteSource, Protocol):
    def fetch_again(self, error: TransferError, position: int) -> None:
        """Continue at an earlier byte, over another connection.

        Raises: TransferError when the file must be requested from its first byte.
        """


class PieceSource(WrappedSource):
    """The body of a source whose size is `total_bytes`; a piece that was begun before is not checked."""

    def __init__(self, source: RepeatableSource, total_bytes: int, pieces: PieceDigests) -> None:
        super().__init__(source)
        self._source = source
        self._size_bytes = total_bytes
        self._pieces = pieces
        self._buffer = memoryview(bytearray(pieces.length_bytes))
        self._filled = 0
        self._given = 0

    def read_into(self, buffer: memoryview) -> int:
        """Read once into `buffer`; return the number of bytes, 0 at the verified end of the body.

        Raises: TransferError `piece_damaged` when no attempt brought a good piece.
        """
        if self._given == self._filled:
            behind = self._source.received_bytes % self._pieces.length_bytes
            if behind:  # a journal continues here
                return self._source.read_into(buffer[: self._pieces.length_bytes - behind])
            self._fill_with_good_bytes()
        count = min(len(buffer), self._filled - self._given)
        buffer[:count] = self._buffer[self._given : self._given + count]
        self._given += count
        return count

    def _fill_with_good_bytes(self) -> None:
        start = self._source.received_bytes
        for attempt in range(1, MAX_ATTEMPTS + 1):
            self._fill(min(self._pieces.length_bytes, self._size_bytes - start))
            if not self._filled or self._is_good(start):
                return
            self._filled = 0
            error = TransferError(
                TransferFailure.PIECE_DAMAGED,
                f"piece at byte {start} does not have its digest, in attempt {attempt} of {MAX_ATTEMPTS}",
                "compare the mirrors with the publisher's file",
            )
            if attempt == MAX_ATTEMPTS:
                raise error
            self._source.fetch_again(error, start)

    def _fill(self, size_bytes: int) -> None:
        self._filled = self._given = 0
        while self._filled < size_bytes:
            count = self._source.read_into(self._buffer[self._filled : size_bytes])
            if count == 0:
                return
            self._filled += count
        if size_bytes == 0:
            self._source.read_into(self._buffer[:1])  # the source checks the end of the body

    def _is_good(self, start: int) -> bool:
        expected = self._pieces.digest_of(start // self._pieces.length_bytes)
        found = hashlib.new(self._pieces.algorithm, self._buffer[: self._filled], usedforsecurity=False)
        return hmac.compare_digest(expected, found.digest())
