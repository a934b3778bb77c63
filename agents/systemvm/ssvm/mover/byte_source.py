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


class WrappedSource:
    """A source that another one is in front of: its subclass reads, and the rest is the other's."""

    def __init__(self, source: ByteSource) -> None:
        self._wrapped = source

    @property
    def received_bytes(self) -> int:
        return self._wrapped.received_bytes

    @property
    def total_bytes(self) -> int | None:
        return self._wrapped.total_bytes

    @property
    def content_encoding(self) -> str | None:
        return self._wrapped.content_encoding

    def resume_point(self) -> ResumePoint | None:
        return self._wrapped.resume_point()
