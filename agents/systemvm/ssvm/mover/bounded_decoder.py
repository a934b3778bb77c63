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
    OnRestartPoint,
    PassthroughDecoder,
    StandardLibraryDecoder,
    ZstdDecoder,
    ignore_restart_points,
)
from systemvm.ssvm.mover.zip_decoder import ZipDecoder
from systemvm.wire.transfer_failure import TransferFailure


class BoundedDecoder:
    """Chooses the decoder by the first bytes, and limits the size of the output."""

    def __init__(
        self,
        max_size_bytes: int,
        limits: TransferLimits,
        on_restart_point: OnRestartPoint = ignore_restart_points,
    ) -> None:
        self._max_size_bytes = max_size_bytes
        self._limits = limits
        self._on_restart_point = on_restart_point
        self._decoder: Decoder | None = None
        self._begun = b""
        self.name: str | None = None
        self.consumed_bytes = 0
        self.produced_bytes = 0

    def resume(self, name: str | None, consumed_bytes: int, produced_bytes: int) -> None:
        """Continue at a restart point of another decoder, which had chosen `name`.

        Raises: TransferError when there is no decoder of this name.
        """
        self.consumed_bytes, self.produced_bytes = consumed_bytes, produced_bytes
        self.name = name
        self._decoder = self._new_decoder(resumes=True)

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
            self._on_restart_point(0)  # it can be entered anywhere
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
        return self._new_decoder(resumes=False)

    def _new_decoder(self, *, resumes: bool) -> Decoder:
        if self.name is None:
            return PassthroughDecoder()
        if self.name == "gzip":
            return GzipDecoder(self._on_restart_point, resumes=resumes)
        if self.name == "zstd":
            return ZstdDecoder(self._on_restart_point, resumes=resumes)
        if self.name in ("bzip2", "xz"):
            return StandardLibraryDecoder(self.name, self._on_restart_point, resumes=resumes)
        if self.name == "zip":
            return ZipDecoder()
        raise TransferError(
            TransferFailure.DECOMPRESSION,
            f"{self.name} files are not supported",
            "publish it as gz, bz2, xz, zst or zip",
        )
