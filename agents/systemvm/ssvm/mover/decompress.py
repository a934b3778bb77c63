# SPDX-License-Identifier: Apache-2.0
"""Decoders of compressed streams, whose output comes in small pieces."""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol

from systemvm.ssvm import zstd_frames
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.limits import KIB, MIB
from systemvm.wire.transfer_failure import TransferFailure

PIECE_BYTES = MIB  # of output at a time
#: The same of decoders that have a large history: they are slow, so that more calls do not count.
_SMALL_PIECE_BYTES = 64 * KIB
_XZ_MEMORY_BYTES = 128 * MIB
_ZSTD_WINDOW_BYTES = 128 * MIB
#: The text by which Python's lzma module reports liblzma's LZMA_MEMLIMIT_ERROR.
_XZ_MEMORY_ERROR = "Memory usage limit exceeded"


#: Is called with the number of bytes of the input that are not decoded yet, at a point where a new decoder
#: could go on without what came before; all output of what came before has been used by then.
OnRestartPoint = Callable[[int], None]


def ignore_restart_points(unread_bytes: int) -> None:
    """Do nothing: the transfer is not journalled."""


class Decoder(Protocol):
    """One compressed stream; pieces come out no larger than `PIECE_BYTES`.

    One that `resumes` begins at a restart point of another, behind which nothing might follow.
    """

    def decode(self, data: bytes) -> Iterator[bytes]: ...

    def finish(self) -> None:
        """Check the end of the stream.

        Raises: TransferError when the stream is truncated.
        """


class PassthroughDecoder:
    """Passes uncompressed data through."""

    def decode(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        return


class GzipDecoder:
    """gzip by ISA-L, with several members one after another, as pigz and bgzf write them."""

    def __init__(
        self, on_restart_point: OnRestartPoint = ignore_restart_points, *, resumes: bool = False
    ) -> None:
        from isal import isal_zlib

        self._on_restart_point = on_restart_point
        self._new = lambda: isal_zlib.decompressobj(31)
        self._error: Any = isal_zlib.error  # its stubs declare it as an instance
        self._stream = self._new()
        self._between = resumes  # a member has ended, and no other has begun

    def decode(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._between:
                data = data.lstrip(b"\0")  # tapes and archives are padded to whole blocks
                if not data:
                    return
                self._stream, self._between = self._new(), False
            try:
                piece = self._stream.decompress(data, PIECE_BYTES)
            except self._error as error:
                raise _damaged("gzip", error) from None
            if piece:
                yield piece
            if self._stream.eof:
                data, self._between = self._stream.unused_data, True
                self._on_restart_point(len(data))
            else:
                data = self._stream.unconsumed_tail

    def finish(self) -> None:
        if not self._between:
            raise _truncated("gzip")


class StandardLibraryDecoder:
    """bzip2 and xz, whose decompressors in the standard library have one interface."""

    def __init__(
        self,
        name: str,
        on_restart_point: OnRestartPoint = ignore_restart_points,
        *,
        resumes: bool = False,
    ) -> None:
        self._name = name
        self._on_restart_point = on_restart_point
        self._stream = self._new()
        self._between = resumes

    def _new(self) -> bz2.BZ2Decompressor | lzma.LZMADecompressor:
        if self._name == "bzip2":
            return bz2.BZ2Decompressor()
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)

    def decode(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self._between:
                data = data.lstrip(b"\0")
                if not data:
                    return
                self._stream, self._between = self._new(), False
            try:
                piece = self._stream.decompress(data, _SMALL_PIECE_BYTES)
            except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
                if str(error) == _XZ_MEMORY_ERROR:
                    raise needs_memory(
                        "the dictionary of the xz file is too large",
                        _XZ_MEMORY_BYTES,
                        "compress it with a dictionary of at most 64 MiB, as xz -9 does",
                    ) from None
                raise _damaged(self._name, error) from None
            if piece:
                yield piece
            if self._stream.eof:
                data, self._between = self._stream.unused_data, True
                self._on_restart_point(len(data))
            elif self._stream.needs_input:
                return
            else:
                data = b""  # the stream holds the rest

    def finish(self) -> None:
        if not self._between:
            raise _truncated(self._name)


class ZstdDecoder:
    """zstd frames one after another, skippable ones among them.

    The push interface of the binding has no bound on its output, so the input is cut into small slices: a
    block of 4 bytes can contain 128 KiB of one byte, and a slice of 1 KiB expands to 32 MiB at most.
    """

    _SLICE_BYTES = 1024

    def __init__(
        self, on_restart_point: OnRestartPoint = ignore_restart_points, *, resumes: bool = False
    ) -> None:
        import zstandard

        self._on_restart_point = on_restart_point
        self._new = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj
        self._error = zstandard.ZstdError
        self._stream: Any = None  # None between frames
        self._header = b""  # of a frame whose header is incomplete
        self._skip_bytes = 0
        self._seen_frame = resumes

    def decode(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._skip_bytes:
                skipped = min(self._skip_bytes, len(data))
                self._skip_bytes -= skipped
                data = data[skipped:]
            elif self._stream is None:
                data, self._header = self._header + data, b""
                if not self._begin(data):
                    self._header = data
                    return
            else:
                data = yield from self._decode_frame(data)

    def finish(self) -> None:
        if self._stream is not None or self._header or self._skip_bytes or not self._seen_frame:
            raise _truncated("zstd")

    def _begin(self, data: bytes) -> bool:
        """Parse the header of a frame; return False when it is incomplete."""
        try:
            header = zstd_frames.read_header(data)
        except ValueError as error:
            raise _damaged("zstd", error) from None
        if isinstance(header, zstd_frames.Skippable):
            self._skip_bytes = header.size_bytes
        elif header is not None:
            if header.window_bytes > _ZSTD_WINDOW_BYTES:
                raise needs_memory(
                    f"the zstd file needs {header.window_bytes // MIB} MiB",
                    _ZSTD_WINDOW_BYTES,
                    "compress it with zstd --long=27 or less",
                )
            self._stream, self._seen_frame = self._new(), True
        return header is not None

    def _decode_frame(self, data: bytes) -> Generator[bytes, None, bytes]:
        """Yield the output of this frame; return the input behind it."""
        for position in range(0, len(data), self._SLICE_BYTES):
            part = data[position : position + self._SLICE_BYTES]
            try:
                piece = self._stream.decompress(part)
            except self._error as error:
                raise _damaged("zstd", error) from None
            for start in range(0, len(piece), PIECE_BYTES):
                yield piece[start : start + PIECE_BYTES]
            if self._stream.eof:
                behind = position + len(part) - len(self._stream.unused_data)
                self._stream = None
                self._on_restart_point(len(data) - behind)
                return data[behind:]
        return b""


def needs_memory(what: str, limit_bytes: int, hint: str) -> TransferError:
    """Return the error for a file that can be good but needs more memory than a job is given."""
    return TransferError(
        TransferFailure.MEMORY_LIMIT,
        f"decompression needs more memory than the limit of {limit_bytes // MIB} MiB: {what}",
        hint,
    )


def _damaged(name: str, error: Exception) -> TransferError:
    return TransferError(
        TransferFailure.DECOMPRESSION,
        f"the {name} file is damaged: {error}",
        "compare it with the publisher's file",
    )


def _truncated(name: str) -> TransferError:
    return TransferError(
        TransferFailure.DECOMPRESSION, f"the {name} file is truncated", "compare it with the publisher's file"
    )
