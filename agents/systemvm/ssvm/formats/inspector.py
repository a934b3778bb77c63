# SPDX-License-Identifier: Apache-2.0
"""The interface of the inspectors of all formats."""

from __future__ import annotations

from typing import Protocol


class Inspector(Protocol):
    """Inspects an image as a stream; both methods raise TransferError when the image must not be used."""

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Inspect the next bytes."""

    def finish(self) -> int:
        """Inspect the end; return the virtual size in bytes."""
