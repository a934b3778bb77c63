# SPDX-License-Identifier: Apache-2.0
"""A source of bytes, and the death of a mover while it writes."""

from __future__ import annotations

from systemvm.ssvm.http_response import ResumePoint


class Died(BaseException):
    """The mover is killed: it does not even clean up."""


class Source:
    """A body of which the connection is as good as the test wants."""

    content_encoding: str | None = None

    def __init__(self, body: bytes, start: int, dies_at: int | None, validator: str | None = '"one"') -> None:
        self._body = body
        self._dies_at = dies_at
        self._validator = validator
        self.total_bytes: int | None = len(body)
        self.received_bytes = start

    def resume_point(self) -> ResumePoint | None:
        if self._validator is None or not self.received_bytes:
            return None
        return ResumePoint(self.received_bytes, self._validator, self.total_bytes, None)

    def read_into(self, buffer: memoryview) -> int:
        end = len(self._body) if self._dies_at is None else self._dies_at
        data = self._body[self.received_bytes : end][: len(buffer)]
        if not data and self._dies_at is not None:
            raise Died
        buffer[: len(data)] = data
        self.received_bytes += len(data)
        return len(data)
