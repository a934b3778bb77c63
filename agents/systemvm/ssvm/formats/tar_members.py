# SPDX-License-Identifier: Apache-2.0
"""A tar archive as a stream of headers and data; nothing is extracted, so no name ever becomes a path."""

from __future__ import annotations

from collections.abc import Iterator

from systemvm.service import tar_header
from systemvm.service.tar_header import BLOCK_BYTES, MAX_EXTENSION_BYTES, TarHeader
from systemvm.ssvm.formats import signatures
from systemvm.ssvm.formats.mismatch import mismatch
from systemvm.ssvm.formats.refusal import damaged, unsafe
from systemvm.ssvm.formats.stream import Data
from systemvm.wire.storage import ImageFormat


class TarMembers:
    """Yields each header, then the pieces of its data; extended headers are applied to the next one."""

    def __init__(self, image_format: ImageFormat) -> None:
        self._format = image_format
        self._block = bytearray()
        self._data_bytes = self._padding_bytes = 0  # that are still to come
        self._extension_kind = ""  # of an extended header whose data are arriving
        self._extension_data = bytearray()
        self._extension: dict[str, str] = {}
        self.extensions: set[str] = set()  # the keys in front of the last header
        self._begun = False
        self.ended = False  # by a block of zeros
        self.seen_bytes = 0

    @property
    def in_member(self) -> bool:
        """Whether the end of the stream here would be in the middle of something."""
        waits = bool(self._data_bytes or self._block or self._extension_kind or self._extension)
        return not self.ended and waits

    @property
    def data_left_bytes(self) -> int:
        return self._data_bytes

    def require_begun(self) -> None:
        """Check that there was a first header.

        Raises: TransferError when the stream is too short for one, or is something else.
        """
        if not self._begun:
            raise mismatch(self._format, signatures.disk_format(bytes(self._block)))

    def feed(self, data: Data) -> Iterator[TarHeader | memoryview]:
        view = memoryview(data)
        self.seen_bytes += len(view)
        while view:
            if self.ended:
                if bytes(view).strip(b"\0"):
                    damaged(self._format, "there is data behind the end of its archive")
                return
            if self._data_bytes:
                piece, view = view[: self._data_bytes], view[self._data_bytes :]
                self._data_bytes -= len(piece)
                if not self._extension_kind:
                    yield piece
                else:
                    self._extension_data += piece
                    self._apply_extension()
            elif self._padding_bytes:
                count = min(self._padding_bytes, len(view))
                self._padding_bytes -= count
                view = view[count:]
            else:
                count = BLOCK_BYTES - len(self._block)
                self._block += view[:count]
                view = view[count:]
                if len(self._block) == BLOCK_BYTES and (header := self._header()) is not None:
                    yield header

    def _header(self) -> TarHeader | None:
        block = bytes(self._block)
        if not self._begun:
            self._check_first(block)
        self._block.clear()
        try:
            header = tar_header.parse(block, self._extension)
        except ValueError as error:
            damaged(self._format, str(error))
        if header is None:
            self.ended = True
            return None
        self._data_bytes = header.size_bytes
        self._padding_bytes = header.padded_bytes - header.size_bytes
        if header.kind in tar_header.EXTENSIONS:
            if header.size_bytes > MAX_EXTENSION_BYTES:
                damaged(self._format, f"an extended header of it claims {header.size_bytes} bytes")
            self._extension_kind = header.kind
            self._apply_extension()
            return None
        self.extensions = set(self._extension)
        self._extension = {}
        return header

    def _check_first(self, block: bytes) -> None:
        if found := signatures.other_disk_formats(block, signatures.ARCHIVE):
            if signatures.is_archive(block):
                unsafe(self._format, f"it also has the magic number of {found[0]}", "pack it anew")
            raise mismatch(self._format, found[0])
        if not signatures.is_archive(block):
            raise mismatch(self._format, None)
        self._begun = True

    def _apply_extension(self) -> None:
        if not self._extension_kind or self._data_bytes:
            return
        try:
            tar_header.extend(self._extension, self._extension_kind, bytes(self._extension_data))
        except ValueError as error:
            damaged(self._format, str(error))
        self._extension_kind = ""
        self._extension_data.clear()
