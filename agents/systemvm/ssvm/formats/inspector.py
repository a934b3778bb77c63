# SPDX-License-Identifier: Apache-2.0
"""What an inspector is, and the one for each format."""

from __future__ import annotations

from typing import Protocol

from systemvm.ssvm.failure import Code, TransferError
from systemvm.ssvm.formats import signatures
from systemvm.wire.storage import ImageFormat


class Inspector(Protocol):
    """Looks at an image as it goes by. Both methods raise TransferError when the image must not be used."""

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """See the next bytes."""

    def finish(self) -> int:
        """See the end; the virtual size in bytes."""


class Head:
    """Collects the first bytes of a stream, and counts all of them."""

    def __init__(self, wanted_bytes: int) -> None:
        self.wanted_bytes = wanted_bytes
        self.seen_bytes = 0
        self.data = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> bool:
        """Take what is missing; whether the head is complete now and was not before."""
        self.seen_bytes += len(data)
        missing = self.wanted_bytes - len(self.data)
        if missing <= 0:
            return False
        self.data += memoryview(data)[:missing]
        return len(self.data) >= self.wanted_bytes


def refuse_other_format(head: bytes, claimed: ImageFormat) -> None:
    """TransferError when a stream without a mark of its own begins like something else."""
    found = signatures.disk_format(head)
    if found is None and (packed := signatures.compression(head)):
        found = f"{packed} file inside another compressed file"
    if found is not None:
        raise mismatch(claimed, found)


def mismatch(claimed: ImageFormat, found: str | None) -> TransferError:
    what = f"it is a {found}" if found else "its content is something else"
    hint = "the server sent a page, not an image; check the URL" if found == "web page" else ""
    return TransferError(
        Code.FORMAT_MISMATCH,
        f"the file is registered as {claimed.value}, but {what}",
        hint or "register it with the format that it has",
    )


def for_format(image_format: ImageFormat, max_virtual_size_bytes: int) -> Inspector:
    """A fresh inspector; imports are late because a mover needs one of them."""
    if image_format is ImageFormat.QCOW2:
        from systemvm.ssvm.formats.qcow2 import Qcow2Inspector

        return Qcow2Inspector(max_virtual_size_bytes)
    if image_format is ImageFormat.ISO:
        from systemvm.ssvm.formats.iso import IsoInspector

        return IsoInspector()
    from systemvm.ssvm.formats.raw import RawInspector

    return RawInspector()
