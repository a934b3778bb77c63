# SPDX-License-Identifier: Apache-2.0
"""A double of qemu-guest-agent, written from the protocol's specification."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any, cast

from systemvm.management.hypervisors.guest_agent import Streams

Answer = Callable[[dict[str, Any]], object]


class QemuGaDouble:
    """Answer as qemu-ga does on its port; `answers` add commands or replace answers."""

    def __init__(self, **answers: Answer) -> None:
        self.reader = asyncio.StreamReader(limit=1024 * 1024)
        self.files: dict[str, bytes] = {}
        self.commands: list[str] = []
        self.left_open: dict[int, tuple[str, str]] = {}
        self.closed = False
        self._answers = answers
        self._rest = b""
        self._positions: dict[int, int] = {}

    async def connect(self) -> Streams:
        return self.reader, cast(asyncio.StreamWriter, self)

    # --- StreamWriter, for the client
    def write(self, data: bytes) -> None:
        self._rest += data
        while b"\n" in self._rest:
            line, _, self._rest = self._rest.partition(b"\n")
            self._take(json.loads(line.rpartition(b"\xff")[2]))

    async def drain(self) -> None:
        return None

    def close(self) -> None:
        self.closed = True

    # --- the guest
    def send(self, line: bytes) -> None:
        self.reader.feed_data(line)

    def _take(self, message: dict[str, Any]) -> None:
        command, arguments = message["execute"], message.get("arguments", {})
        self.commands.append(command)
        own = self._answers.get(command.replace("-", "_"))
        if own is not None:
            answer = own(arguments)
            if answer is not None:
                self.send(json.dumps(answer).encode() + b"\n")
            return
        if command == "guest-sync-delimited":
            self.send(b"\xff" + json.dumps({"return": arguments["id"]}).encode() + b"\n")
            return
        result = getattr(self, "_" + command.replace("-", "_"))(
            **{k.replace("-", "_"): v for k, v in arguments.items()}
        )
        self.send(json.dumps(result if "error" in result else {"return": result}).encode() + b"\n")

    def _guest_file_open(self, path: str, mode: str) -> Any:
        if mode == "r" and path not in self.files:
            return {"error": {"class": "GenericError", "desc": f"failed to open file '{path}': No such file"}}
        handle = 1000 + len(self.left_open)
        self.left_open[handle] = (path, mode)
        self._positions[handle] = 0
        if mode == "w":
            self.files[path] = b""
        return _Number(handle)

    def _guest_file_write(self, handle: int, buf_b64: str) -> Any:
        # write(2) can write a part
        piece = base64.b64decode(buf_b64)[:30_000]
        self.files[self.left_open[handle][0]] += piece
        return {"count": len(piece), "eof": False}

    def _guest_file_read(self, handle: int, count: int) -> Any:
        content = self.files[self.left_open[handle][0]]
        start = self._positions[handle]
        piece = content[start : start + count]
        self._positions[handle] += len(piece)
        return {
            "count": len(piece),
            "buf-b64": base64.b64encode(piece).decode(),
            "eof": start + count >= len(content),
        }

    def _guest_file_close(self, handle: int) -> Any:
        del self.left_open[handle]
        return {}


class _Number(int):
    """A handle, which is answered as a plain number."""

    def __contains__(self, key: object) -> bool:
        return False
