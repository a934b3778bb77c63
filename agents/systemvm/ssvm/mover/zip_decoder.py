# SPDX-License-Identifier: Apache-2.0
"""The one member of a zip file, from a stream: the central directory is checked when it comes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from systemvm.ssvm import zip_records
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.mover.decompress import PIECE_BYTES
from systemvm.ssvm.zip_records import Contents, Member, RefusedZipError
from systemvm.wire.transfer_failure import TransferFailure


class ZipDecoder:
    """Stored or deflated, zip64 or not; its parts come in one order, so each `_step` waits for the next one.

    It has no restart point: the CRC of what came before is needed at the end.
    """

    def __init__(self) -> None:
        from isal import isal_zlib

        self._crc32: Callable[[Any, int], int] = isal_zlib.crc32
        self._new = lambda: isal_zlib.decompressobj(-15)
        self._error: Any = isal_zlib.error
        self._steps: Generator[bytes, None, None] = self._walk()
        self._data = b""  # that no step has taken
        self._position = 0  # in the file, in front of `_data`
        self._is_complete = False
        self._found = Contents(0, 0, 0)
        self._needs_more = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        self._data += data
        self._needs_more = False
        try:
            for piece in self._steps:
                if piece:
                    yield piece
                if self._needs_more:
                    return
            if self._data:
                raise ValueError("something follows its end")
        except RefusedZipError as error:
            raise _refused(str(error)) from None
        except (ValueError, self._error) as error:
            raise TransferError(
                TransferFailure.DECOMPRESSION,
                f"the zip file is damaged: {error}",
                "compare it with the publisher's file",
            ) from None

    def finish(self) -> None:
        if not self._is_complete:
            raise TransferError(
                TransferFailure.DECOMPRESSION,
                "the zip file is truncated",
                "compare it with the publisher's file",
            )

    def _walk(self) -> Generator[bytes, None, None]:
        """Yield the member's bytes, and an empty piece with `_needs_more` set where more input is needed."""
        head = yield from self._peek(zip_records.LOCAL_BYTES)
        _require_signature(head, zip_records.LOCAL)
        member = zip_records.read_local((yield from self._take(zip_records.local_header_bytes(head))))
        if member.method == zip_records.STORED:
            yield from self._stored(member.packed_bytes or 0)
        else:
            yield from self._deflated()
        yield from self._check_contents(member)
        directory_at = self._position
        head = yield from self._peek(zip_records.CENTRAL_BYTES)
        _require_signature(head, zip_records.CENTRAL)
        header = yield from self._take(zip_records.central_header_bytes(head))
        zip_records.require_central(header, member, self._found)
        yield from self._end(directory_at, self._position - directory_at)
        self._is_complete = True

    def _stored(self, missing_bytes: int) -> Generator[bytes, None, None]:
        while missing_bytes:
            if not self._data:
                yield from self._wait()
            piece = self._data[: min(missing_bytes, PIECE_BYTES)]
            self._skip(len(piece))
            missing_bytes -= len(piece)
            self._count(piece, len(piece))
            yield piece

    def _deflated(self) -> Generator[bytes, None, None]:
        stream = self._new()
        while not stream.eof:
            if not self._data:
                yield from self._wait()
            given = self._data
            piece = stream.decompress(given, PIECE_BYTES)
            rest = stream.unused_data if stream.eof else stream.unconsumed_tail
            self._skip(len(given) - len(rest))
            self._count(piece, len(given) - len(rest))
            if piece:
                yield piece

    def _check_contents(self, member: Member) -> Generator[bytes, None, None]:
        found = self._found
        if member.crc is not None:
            if (member.crc, member.packed_bytes, member.plain_bytes) != (
                found.crc,
                found.packed_bytes,
                found.plain_bytes,
            ):
                raise ValueError("size or CRC in front of the file are not those of the file")
            return
        while (length := zip_records.descriptor_bytes(self._data, found)) is None:
            yield from self._wait()
        self._skip(length)

    def _end(self, directory_at: int, directory_bytes: int) -> Generator[bytes, None, None]:
        signature = yield from self._peek(4)
        has_zip64 = signature[:4] == zip_records.END64
        if has_zip64:
            end64_at = self._position
            record = yield from self._take(zip_records.END64_BYTES)
            zip_records.require_end64(record, directory_at, directory_bytes)
            record = yield from self._take(zip_records.LOCATOR64_BYTES)
            _require_signature(record, zip_records.LOCATOR64)
            zip_records.require_locator64(record, end64_at)
        record = yield from self._take(zip_records.END_BYTES)
        _require_signature(record, zip_records.END)
        comment_bytes = zip_records.require_end(record, directory_at, directory_bytes, has_zip64=has_zip64)
        yield from self._take(comment_bytes)

    # ---- the stream ----------------------------------------------------------------------------------------

    def _wait(self) -> Generator[bytes, None, None]:
        self._needs_more = True
        yield b""

    def _peek(self, count: int) -> Generator[bytes, None, bytes]:
        while len(self._data) < count:
            yield from self._wait()
        return self._data

    def _take(self, count: int) -> Generator[bytes, None, bytes]:
        taken = (yield from self._peek(count))[:count]
        self._skip(count)
        return taken

    def _skip(self, count: int) -> None:
        self._data = self._data[count:]
        self._position += count

    def _count(self, piece: bytes, packed_bytes: int) -> None:
        found = self._found
        self._found = Contents(
            self._crc32(piece, found.crc), found.packed_bytes + packed_bytes, found.plain_bytes + len(piece)
        )


def _require_signature(record: bytes, signature: bytes) -> None:
    found = record[:4]
    if found == signature:
        return
    if found in (zip_records.LOCAL, zip_records.CENTRAL):
        raise RefusedZipError("it contains several files")
    if found in (b"PK\x06\x08", b"PK\x05\x05"):
        raise RefusedZipError("its central directory is encrypted or signed")
    raise ValueError("a record is missing, or is not where it must be")


def _refused(why: str) -> TransferError:
    return TransferError(
        TransferFailure.ARCHIVE_REFUSED,
        f"the zip file cannot be used: {why}",
        "publish a zip with one image in it, not encrypted, or compress the image as gz, xz or zst",
    )
