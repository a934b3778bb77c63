# SPDX-License-Identifier: Apache-2.0
"""The gate: every image passes it, whether it is downloaded, uploaded, copied or a snapshot.

A stream goes through an `Admission`, beside whatever else is done with it; a file that exists through
`admit_file`.
"""

from __future__ import annotations

import os
import stat

from attrs import frozen

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.formats.by_format import for_format
from systemvm.ssvm.formats.inspector import Inspector
from systemvm.ssvm.formats.stream import Data, ImageStream
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

_READ_BYTES = 256 * 1024
_SHORT_READ_BYTES = 4096  # at least: ranges follow each other closely


@frozen
class Verdict:
    """An admitted image."""

    format: ImageFormat
    size_bytes: int
    virtual_size_bytes: int


class Admission:
    """One image on its way in: `feed` all of its bytes in order, then `verdict`."""

    def __init__(self, image_format: ImageFormat, max_virtual_size_bytes: int) -> None:
        self.format = image_format
        self._inspector: Inspector = for_format(image_format, max_virtual_size_bytes)
        self._size_bytes = 0

    @property
    def stream(self) -> ImageStream | None:
        """What the inspector waits for; None when it needs every byte."""
        return getattr(self._inspector, "stream", None)

    def feed(self, data: Data) -> None:
        """Inspect the next bytes, before they are written anywhere.

        Raises: TransferError as soon as the image is known to be refused.
        """
        self._size_bytes += len(data)
        self._inspector.feed(data)

    def skip(self, count: int) -> None:
        """Leave out bytes that nobody waits for."""
        if self.stream is not None:
            self._size_bytes += count
            self.stream.skip(count)

    def verdict(self) -> Verdict:
        """Inspect the end.

        Raises: TransferError when the image is refused.
        """
        virtual_size_bytes = self._inspector.finish()
        return Verdict(self.format, self._size_bytes, virtual_size_bytes)


def admit_file(descriptor: int, image_format: ImageFormat, max_virtual_size_bytes: int) -> Verdict:
    """Inspect a file or a block device; only what its format needs is read. Blocking, for a helper's process.

    Raises: TransferError when the image is refused; OSError when it cannot be read.
    """
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise TransferError(TransferFailure.FORMAT_UNSAFE, "the image is not a file", "copy it to a file")
    size_bytes = os.lseek(descriptor, 0, os.SEEK_END)
    admission = Admission(image_format, max_virtual_size_bytes)
    position = 0
    while position < size_bytes:
        wanted, count = _next_wanted(admission.stream, position, size_bytes)
        if wanted > position:
            admission.skip(wanted - position)
            position = wanted
        data = os.pread(descriptor, min(count, size_bytes - position), position)
        if not data:
            break  # it has become shorter: the inspector finds the end missing
        admission.feed(data)
        position += len(data)
    return admission.verdict()


def _next_wanted(stream: ImageStream | None, position: int, size_bytes: int) -> tuple[int, int]:
    """Return the next place to read, and how much there."""
    if stream is None:
        return position, _READ_BYTES
    tail = max(position, size_bytes - max(1, stream.tail_bytes))
    wanted = stream.next_wanted
    if wanted is None or wanted[0] >= tail:
        return tail, _READ_BYTES
    return wanted[0], max(_SHORT_READ_BYTES, min(wanted[1], _READ_BYTES))
