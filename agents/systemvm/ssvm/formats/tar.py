# SPDX-License-Identifier: Apache-2.0
"""TAR: an archive of a file system. It is stored as it is; what unpacks it must not be led astray."""

from __future__ import annotations

from systemvm.service.tar_header import TarHeader
from systemvm.ssvm.formats.refusal import damaged, unsafe
from systemvm.ssvm.formats.stream import Data
from systemvm.ssvm.formats.tar_members import TarMembers
from systemvm.wire.storage import ImageFormat


class TarInspector:
    """Follows the headers to the end; names stay below the directory that the archive is unpacked in."""

    def __init__(self) -> None:
        self._members = TarMembers(ImageFormat.TAR)
        self._count = 0

    def feed(self, data: Data) -> None:
        for event in self._members.feed(data):
            if isinstance(event, TarHeader):
                self._count += 1
                if event.name.startswith("/") or ".." in event.name.split("/"):
                    unsafe(
                        ImageFormat.TAR,
                        f"the name of a member leaves the archive: {event.name[:80]!r}",
                        "pack it with relative names",
                    )

    def finish(self) -> int:
        self._members.require_begun()
        if self._members.in_member:
            damaged(ImageFormat.TAR, "it is truncated")
        if not self._count:
            damaged(ImageFormat.TAR, "its archive is empty")
        return self._members.seen_bytes
