# SPDX-License-Identifier: Apache-2.0
"""One session with qemu-guest-agent: JSON values on a stream that an earlier client may have left unread.

The protocol is qemu-guest-agent's (QEMU docs/interop/qemu-ga-ref). Every session begins with
`guest-sync-delimited`: a 0xFF byte makes the guest drop half a command, and a random number follows. Its
answer, behind a 0xFF of the guest's, is the first one that belongs to this session.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

from attrs import frozen

from systemvm.management.hypervisors.errors import HypervisorError

LINE_LIMIT_BYTES = 48 * 1024 * 1024
_CHUNK_BYTES = 48 * 1024  # upstream's own buffers are smaller; qemu-ga reads at most 48 MB at once
_DELIMITER = b"\xff"
#: `guest-exec` reports the end only when it is queried: often at first, then at a longer interval.
_FIRST_POLL_S, _LAST_POLL_S = 0.05, 0.5


class GuestAgentError(HypervisorError):
    """The guest agent rejected a command, or sent an invalid answer."""


class GuestAgentSilentError(GuestAgentError):
    """The guest agent does not answer: the guest is booting, hangs, or does not run qemu-guest-agent."""


@frozen
class CommandResult:
    """The result of a program in the guest; `truncated` when its output was longer than the limit."""

    exit_code: int | None  # None: ended by `signal`
    signal: int | None
    stdout: bytes
    stderr: bytes
    truncated: bool = False

    @property
    def succeeded(self) -> bool:
        return self.exit_code == 0


class GuestAgentSession:
    """One connection. No argument and no answer gets into an error, because either can be secret."""

    def __init__(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: list[str]
    ) -> None:
        self._name = name
        self._reader = reader
        self._writer = writer
        self._command = command  # the one in progress: the caller's timeout error names it

    async def synchronise(self) -> None:
        """Discard unread data of earlier clients on both sides of the port."""
        number = secrets.randbelow(2**31)
        message = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
        self._writer.write(_DELIMITER + json.dumps(message).encode() + b"\n")
        await self._writer.drain()
        while True:
            await self._skip_to_delimiter()
            line = await self._line()
            with contextlib.suppress(ValueError, AttributeError):
                if json.loads(line).get("return") == number:
                    return

    async def execute(self, command: str, arguments: dict[str, object] | None = None) -> Any:
        """Return the `return` value of the answer.

        Raises: GuestAgentError when the guest rejects the command or its answer is invalid.
        """
        self._command[0] = command
        message = {"execute": command} | ({"arguments": arguments} if arguments else {})
        self._writer.write(json.dumps(message).encode() + b"\n")
        await self._writer.drain()
        try:
            answer = json.loads(await self._line())
        except ValueError as error:
            raise GuestAgentError(
                f"{self._name}: answer of the guest agent to {command} is not JSON"
            ) from error
        if not isinstance(answer, dict) or "return" not in answer:
            why = answer.get("error") if isinstance(answer, dict) else None
            text = str(why.get("desc", why)) if isinstance(why, dict) else "its answer has no return value"
            raise GuestAgentError(f"{self._name}: guest agent rejected {command}: {text[:500]}")
        return answer["return"]

    async def run(self, argv: Sequence[str], stdin: bytes, output_limit_bytes: int) -> CommandResult:
        arguments: dict[str, object] = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
        if stdin:
            arguments["input-data"] = base64.b64encode(stdin).decode()
        pid = self._field(await self.execute("guest-exec", arguments), "pid", "guest-exec")
        pause_s = _FIRST_POLL_S
        while True:
            status = await self.execute("guest-exec-status", {"pid": pid})
            if self._field(status, "exited", "guest-exec-status"):
                break
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LAST_POLL_S)
        kept: list[bytes] = []
        truncated = False
        for stream in ("out", "err"):
            content = self._decoded(status.get(f"{stream}-data", ""), "guest-exec-status")
            truncated |= bool(status.get(f"{stream}-truncated")) or len(content) > output_limit_bytes
            kept.append(content[:output_limit_bytes])
        return CommandResult(status.get("exitcode"), status.get("signal"), kept[0], kept[1], truncated)

    async def read_file(self, path: str, limit_bytes: int) -> bytes:
        content = bytearray()
        async with self._opened(path, "r") as handle:
            while len(content) < limit_bytes:
                count = min(_CHUNK_BYTES, limit_bytes - len(content))
                piece = await self.execute("guest-file-read", {"handle": handle, "count": count})
                content += self._decoded(self._field(piece, "buf-b64", "guest-file-read"), "guest-file-read")
                if self._field(piece, "eof", "guest-file-read"):
                    break
        return bytes(content)

    async def write_file(self, path: str, content: bytes) -> None:
        async with self._opened(path, "w") as handle:
            position = 0
            while position < len(content):
                piece = base64.b64encode(content[position : position + _CHUNK_BYTES]).decode()
                done = await self.execute("guest-file-write", {"handle": handle, "buf-b64": piece})
                written = self._field(done, "count", "guest-file-write")
                if not isinstance(written, int) or written <= 0:
                    raise GuestAgentError(f"{self._name}: guest agent wrote no byte of {path}")
                position += written

    @contextlib.asynccontextmanager
    async def _opened(self, path: str, mode: str) -> AsyncIterator[Any]:
        handle = await self.execute("guest-file-open", {"path": path, "mode": mode})
        try:
            yield handle
        except GuestAgentError:
            with contextlib.suppress(GuestAgentError):
                await self.execute("guest-file-close", {"handle": handle})
            raise
        # not at a deadline: the stream is then in the middle of an answer
        await self.execute("guest-file-close", {"handle": handle})

    async def _skip_to_delimiter(self) -> None:
        while (await self._reader.readexactly(1)) != _DELIMITER:
            pass

    async def _line(self) -> bytes:
        try:
            return await self._reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            raise GuestAgentError(
                f"{self._name}: answer of the guest agent is longer than {LINE_LIMIT_BYTES} bytes"
            ) from error

    def _field(self, answer: Any, key: str, command: str) -> Any:
        try:
            return cast(dict[str, Any], answer)[key]
        except (KeyError, TypeError) as error:
            raise GuestAgentError(
                f"{self._name}: answer of the guest agent to {command} has no {key}"
            ) from error

    def _decoded(self, text: Any, command: str) -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except (TypeError, ValueError, binascii.Error) as error:
            raise GuestAgentError(
                f"{self._name}: answer of the guest agent to {command} is not base64"
            ) from error
