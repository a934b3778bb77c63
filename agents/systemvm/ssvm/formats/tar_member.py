# SPDX-License-Identifier: Apache-2.0
"""The disk of a containerDisk: the one regular file below a directory of a layer, taken out of the stream.

No name becomes a path, and nothing is extracted: the bytes of that member go where those of any image go.
"""

from __future__ import annotations

from collections.abc import Iterator

from systemvm.service.tar_header import REGULAR, TarHeader
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.formats.tar_members import TarMembers
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure


class TarMember:
    """Yields the bytes of the regular file below `directory`, which ends with a slash."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._members = TarMembers(ImageFormat.TAR)
        self._found: str | None = None
        self._takes = False

    def feed(self, data: bytes | memoryview) -> Iterator[memoryview]:
        """Take the next bytes of the archive.

        Raises: TransferError when it is damaged, or has more than one such file.
        """
        for event in self._members.feed(data):
            if isinstance(event, TarHeader):
                self._begin(event)
            elif self._takes:
                yield event

    def finish(self) -> None:
        """Check the end.

        Raises: TransferError when the archive is truncated, or has no such file.
        """
        self._members.require_begun()
        if self._members.in_member:
            raise TransferError(TransferFailure.FORMAT_DAMAGED, "layer of the image is truncated")
        if self._found is None:
            raise self._refused(f"it has no file below {self._directory}")

    def _begin(self, header: TarHeader) -> None:
        name = header.name.removeprefix("./").removeprefix("/")
        self._takes = header.kind == REGULAR and name.startswith(self._directory)
        if self._takes and self._found is not None:
            raise self._refused(f"it has several files below {self._directory}")
        if self._takes:
            self._found = name

    def _refused(self, why: str) -> TransferError:
        return TransferError(
            TransferFailure.MANIFEST_INVALID,
            f"layer of the image is not a containerDisk: {why}",
            "use an image that contains one disk",
        )
