# SPDX-License-Identifier: Apache-2.0
"""Where the bytes of an image come from: a server (`adaptive_source`) or its user (`upload_source`)."""

from __future__ import annotations

from typing import Protocol

from systemvm.ssvm.http_response import ResumePoint


class ByteSource(Protocol):
    """A body in order; another thread reads the properties meanwhile."""

    @property
    def received_bytes(self) -> int:
        """The next byte in order."""

    @property
    def total_bytes(self) -> int | None: ...

    @property
    def content_encoding(self) -> str | None: ...

    def resume_point(self) -> ResumePoint | None:
        """Return where another connection can resume; None when none can."""

    def read_into(self, buffer: memoryview) -> int:
        """Read once into `buffer`; return the number of bytes, 0 at the verified end of the body."""
