# SPDX-License-Identifier: Apache-2.0
"""The interface of inspectors, and the one for each format."""

from __future__ import annotations

from typing import Protocol

from systemvm.wire.storage import ImageFormat


class Inspector(Protocol):
    """Inspects an image as a stream; both methods raise TransferError when the image must not be used."""

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Inspect the next bytes."""

    def finish(self) -> int:
        """Inspect the end; return the virtual size in bytes."""


def for_format(image_format: ImageFormat, max_virtual_size_bytes: int) -> Inspector:
    """Return a new inspector; imports are late because a mover needs only one of them."""
    if image_format is ImageFormat.QCOW2:
        from systemvm.ssvm.formats.qcow2 import Qcow2Inspector

        return Qcow2Inspector(max_virtual_size_bytes)
    if image_format is ImageFormat.ISO:
        from systemvm.ssvm.formats.iso import IsoInspector

        return IsoInspector()
    from systemvm.ssvm.formats.raw import RawInspector

    return RawInspector()
