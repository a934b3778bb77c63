# SPDX-License-Identifier: Apache-2.0
"""Decompression with bounded output: a small file must not become an endless one.

The first bytes of a file decide how it is decompressed, as in CloudStack, and not its name.
"""

from __future__ import annotations

from collections.abc import Iterator

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.formats import signatures
from systemvm.ssvm.limits import TransferLimits
from systemvm.ssvm.mover.decompress import (
    Decoder,
    GzipDecoder,
    PassthroughDecoder,
    StandardLibraryDecoder,
    ZstdDecoder,
)
from systemvm.wire.transfer_failure import TransferFailure


class BoundedDecoder:
    """Chooses the decoder by the first bytes, and limits the size of the output."""

    def __init__(self, max_size_bytes: int, limits: TransferLimits) -> None:
        self._max_size_bytes = max_size_bytes
        self._limits = limits
        self._decoder: Decoder | None = None
        self._begun = b""
        self.name: str | None = None
        self.consumed_bytes = 0
        self.produced_bytes = 0

    def decode(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        """Decode the next part; what it yields must be used before `data` changes."""
        self.consumed_bytes += len(data)
        if self._decoder is None:
            self._begun += data
            if len(self._begun) < 16:
                return
            self._decoder = self._choose(self._begun)
            data = self._begun
        if isinstance(self._decoder, PassthroughDecoder):
            yield from self._counted(iter((data,)))  # without a copy
        else:
            yield from self._counted(self._decoder.decode(bytes(data)))

    def finish(self) -> Iterator[bytes | memoryview]:
        if self._decoder is None:
            self._decoder = self._choose(self._begun)
            yield from self._counted(self._decoder.decode(self._begun))
        self._decoder.finish()

    def _counted(self, pieces: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        for piece in pieces:
            self.produced_bytes += len(piece)
            if self.produced_bytes > self._max_size_bytes:
                raise TransferError(
                    TransferFailure.TOO_LARGE,
                    f"the image decompresses to more than {self._max_size_bytes} bytes, which is the limit",
                    "use a smaller image, or raise max_template_size_bytes of the zone",
                )
            if (
                self.produced_bytes > self._limits.ratio_free_bytes
                and self.produced_bytes > self._limits.max_ratio * self.consumed_bytes
            ):
                raise TransferError(
                    TransferFailure.TOO_LARGE,
                    f"the image grows too much when decompressed: more than {self._limits.max_ratio} times",
                    "publish it uncompressed, unless it is a decompression bomb",
                )
            yield piece

    def _choose(self, head: bytes) -> Decoder:
        self.name = signatures.compression(head)
        if self.name is None:
            return PassthroughDecoder()
        if self.name == "gzip":
            return GzipDecoder()
        if self.name == "zstd":
            return ZstdDecoder()
        if self.name in ("bzip2", "xz"):
            return StandardLibraryDecoder(self.name)
        raise TransferError(
            TransferFailure.DECOMPRESSION,
            f"{self.name} files are not supported",
            "publish it as gz, bz2, xz or zst",
        )
