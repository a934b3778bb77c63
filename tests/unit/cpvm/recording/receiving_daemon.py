# SPDX-License-Identifier: Apache-2.0
"""A daemon that takes the pieces of recordings."""

from __future__ import annotations

from typing import Any

from systemvm.rpc.core.errors import RpcError
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.recording import (
    CONSOLE_RECORD,
    CONSOLE_RECORDED,
    RecordedEnd,
)


class Daemon:
    """Takes pieces as the daemon does; `refusal` is raised instead while it is set."""

    def __init__(self) -> None:
        self.content = b""
        self.ends: list[RecordedEnd] = []
        self.refusal: RpcError | None = None
        self.calls = 0

    async def call(self, method: str, params: Any = None, **options: Any) -> Any:
        self.calls += 1
        if method == CONSOLE_RECORDED:
            self.ends.append(params)
            return Acknowledgement()
        assert method == CONSOLE_RECORD
        if self.refusal is not None:
            raise self.refusal
        self.content = self.content[: params.offset] + params.data
        return Acknowledgement()
