# SPDX-License-Identifier: Apache-2.0
"""A client of qemu-guest-agent, the way into a machine that has no network: commands, files, clock.

The protocol is qemu-guest-agent's (QEMU docs/interop/qemu-ga-ref): JSON values on a virtio-serial port that
QEMU shows as a UNIX socket. The port carries whatever an earlier client left unread, so every conversation
begins with `guest-sync-delimited`: a 0xFF byte that makes the guest drop half a command, and a random number
whose answer, behind a 0xFF of the guest's, is where the stream is ours. A command waits in the socket until
the guest's program opens its port, so that waiting for a machine to boot is one read and no polling.

The connection is kept between conversations: while no client is connected, the guest's read of its port ends
at once, and qemu-ga tries again ten times a second (qga/main.c, channel_event_cb), which costs an emulated
guest one percent of a core and keeps its kernel from sleeping.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from attrs import frozen

from systemvm.management.asyncio_bridge import in_asyncio
from systemvm.management.hypervisors.base import HypervisorError
from systemvm.management.hypervisors.process import connect_unix
from systemvm.service.slowness import TimeoutScale, unscaled

#: How long a guest that runs may take for a simple answer; emulated ones are slow.
ANSWER_S = 10.0
EXEC_S = 60.0
FILE_S = 30.0
#: qemu-ga itself ends a capture at 16 MiB, which is 22 MB of base64 a stream.
OUTPUT_LIMIT_BYTES = 1024 * 1024
_LINE_LIMIT_BYTES = 48 * 1024 * 1024
_CHUNK_BYTES = 48 * 1024  # upstream's own buffers are smaller; qemu-ga reads at most 48 MB at once
_DELIMITER = b"\xff"
#: `guest-exec` tells of its end only when it is asked: first soon, then at leisure.
_FIRST_POLL_S, _LAST_POLL_S = 0.05, 0.5


T = TypeVar("T")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class GuestAgentError(HypervisorError):
    """The guest agent answered, and not as it should: a refusal, or words that are no answer."""


class GuestAgentSilentError(GuestAgentError):
    """The guest agent does not answer: the guest has not come so far, hangs, or has no such program."""


@frozen
class CommandResult:
    """A program in the guest that came to its end; `truncated` when it said more than was kept."""

    exit_code: int | None  # None: it died by `signal`
    signal: int | None
    stdout: bytes
    stderr: bytes
    truncated: bool = False

    @property
    def succeeded(self) -> bool:
        return self.exit_code == 0


@frozen
class GuestAddress:
    address: str
    prefix_length: int


@frozen
class GuestInterface:
    """A NIC as the guest sees it."""

    device: str
    mac: str | None
    addresses: tuple[GuestAddress, ...]


class GuestAgents(Protocol):
    """A driver whose machines can be reached by their guest agents."""

    def guest_agent(self, name: str) -> GuestAgent:
        """The machine's; DomainNotFoundError when it does not run."""


class GuestAgent:
    """One machine's. Every call is a conversation of its own, has a deadline, and raises GuestAgentError."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], Awaitable[Streams]],
        timeout_scale: TimeoutScale = unscaled,
    ) -> None:
        """Every `timeout_s` is multiplied by `timeout_scale` when the call begins."""
        self._name = name
        self._timeout_scale = timeout_scale
        self._connect = connect
        # QEMU serves one client at a time; a second one would wait for it without knowing why
        self._turn = asyncio.Lock()
        self._held: Streams | None = None

    @classmethod
    def on_socket(cls, name: str, channel: Path, timeout_scale: TimeoutScale = unscaled) -> GuestAgent:
        """On the UNIX socket that QEMU listens on."""

        async def connect() -> Streams:
            return await asyncio.open_unix_connection(sock=connect_unix(channel), limit=_LINE_LIMIT_BYTES)

        return cls(name, connect, timeout_scale)

    async def hold(self) -> None:
        """Connect now and stay connected, so that the guest's program can sleep; in asyncio, no error."""
        async with self._turn:
            if self._held is None:
                with contextlib.suppress(OSError):
                    self._held = await self._connect()

    def release(self) -> None:
        """Hang up, so that another process can talk to the guest."""
        held, self._held = self._held, None
        if held is not None:
            held[1].close()

    async def ping(self, *, timeout_s: float = ANSWER_S) -> None:
        """Come back when the guest agent answers; with a long `timeout_s` this waits for a boot."""

        async def nothing_more(_: GuestAgentSession) -> None:
            return None

        await self._talk(nothing_more, timeout_s)

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout_s: float = EXEC_S,
        output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
    ) -> CommandResult:
        """Run a program as root. At the deadline it is given up and left alone: qemu-ga cannot end it."""
        return await self._talk(lambda talk: talk.run(argv, stdin, output_limit_bytes), timeout_s)

    async def read_file(
        self, path: str, *, limit_bytes: int = OUTPUT_LIMIT_BYTES, timeout_s: float = FILE_S
    ) -> bytes:
        """The beginning of a file, at most `limit_bytes` of it."""
        return await self._talk(lambda talk: talk.read_file(path, limit_bytes), timeout_s)

    async def write_file(self, path: str, content: bytes, *, timeout_s: float = FILE_S) -> None:
        """Write a file whole; qemu-ga gives a new one mode 0666, so a secret goes into one that is there."""
        await self._talk(lambda talk: talk.write_file(path, content), timeout_s)

    async def os_info(self, *, timeout_s: float = ANSWER_S) -> dict[str, str]:
        """`/etc/os-release` and uname: id, pretty-name, version-id, kernel-release, machine, …"""
        answer = await self._ask("guest-get-osinfo", timeout_s=timeout_s)
        return {str(key): str(value) for key, value in answer.items()} if isinstance(answer, dict) else {}

    async def network_interfaces(self, *, timeout_s: float = ANSWER_S) -> list[GuestInterface]:
        """What NICs the guest has, and their addresses, loopback among them."""
        answer = await self._ask("guest-network-get-interfaces", timeout_s=timeout_s)
        try:
            return [
                GuestInterface(
                    record["name"],
                    record.get("hardware-address"),
                    tuple(
                        GuestAddress(address["ip-address"], int(address["prefix"]))
                        for address in record.get("ip-addresses", [])
                    ),
                )
                for record in answer
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise self._unexpected("guest-network-get-interfaces") from error

    async def clock_skew_s(self, *, timeout_s: float = ANSWER_S) -> float:
        """How far the guest's clock is ahead of this host's at the middle of question and answer."""
        before = time.time()
        answer = await self._ask("guest-get-time", timeout_s=timeout_s)
        after = time.time()
        if not isinstance(answer, int):
            raise self._unexpected("guest-get-time")
        return answer / 1e9 - (before + after) / 2

    async def set_time(self, unix_s: float | None = None, *, timeout_s: float = ANSWER_S) -> None:
        """Set the guest's clock and its RTC, to this host's time if not told another."""
        moment = time.time() if unix_s is None else unix_s
        await self._ask("guest-set-time", {"time": int(moment * 1e9)}, timeout_s=timeout_s)

    # ---- asyncio's side -------------------------------------------------------------------------------

    async def _ask(
        self, command: str, arguments: dict[str, object] | None = None, *, timeout_s: float
    ) -> Any:
        return await self._talk(lambda talk: talk.ask(command, arguments), timeout_s)

    async def _talk(self, body: Callable[[GuestAgentSession], Awaitable[T]], timeout_s: float) -> T:
        return await in_asyncio(self._within(body, timeout_s))

    async def _within(self, body: Callable[[GuestAgentSession], Awaitable[T]], timeout_s: float) -> T:
        command = ["guest-sync-delimited"]
        timeout_s *= self._timeout_scale()
        try:
            async with asyncio.timeout(timeout_s), self._turn, self._connected(command) as talk:
                await talk.synchronise()
                return await body(talk)
        except TimeoutError as error:
            if command[0] == "guest-sync-delimited":
                raise GuestAgentSilentError(
                    f"{self._name}: the guest agent does not answer ({timeout_s:g} s)",
                    "the guest is still booting, hangs, or does not run qemu-guest-agent",
                ) from error
            raise GuestAgentSilentError(
                f"{self._name}: the guest agent did not finish {command[0]} within {timeout_s:g} s"
            ) from error

    @contextlib.asynccontextmanager
    async def _connected(self, command: list[str]) -> AsyncIterator[GuestAgentSession]:
        try:
            reader, writer = self._held or await self._connect()
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise GuestAgentSilentError(
                f"{self._name}: the machine has no channel to its guest agent", "does it run?"
            ) from error
        except OSError as error:  # EAGAIN: QEMU's queue of clients is full
            raise GuestAgentSilentError(
                f"{self._name}: QEMU does not take the guest agent's channel: {error.strerror}"
            ) from error
        self._held = reader, writer
        try:
            yield GuestAgentSession(self._name, reader, writer, command)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            self.release()
            raise GuestAgentSilentError(f"{self._name}: the machine ended during {command[0]}") from error
        except BaseException:
            self.release()  # what is still to come of an answer ends with the connection
            with contextlib.suppress(OSError):
                self._held = await self._connect()
            raise

    def _unexpected(self, command: str) -> GuestAgentError:
        return GuestAgentError(f"{self._name}: the guest agent's answer to {command} is odd")


class GuestAgentSession:
    """One connection; nothing that was asked or answered gets into an error, since it may be secret."""

    def __init__(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: list[str]
    ) -> None:
        self._name = name
        self._reader = reader
        self._writer = writer
        self._command = command  # the one that is waited for, which its caller names when time is up

    async def synchronise(self) -> None:
        """Drop what others left on both sides of the port."""
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

    async def ask(self, command: str, arguments: dict[str, object] | None = None) -> Any:
        """The answer's `return`; GuestAgentError when the guest refuses."""
        self._command[0] = command
        message = {"execute": command} | ({"arguments": arguments} if arguments else {})
        self._writer.write(json.dumps(message).encode() + b"\n")
        await self._writer.drain()
        try:
            answer = json.loads(await self._line())
        except ValueError as error:
            raise GuestAgentError(
                f"{self._name}: the guest agent's answer to {command} is no JSON"
            ) from error
        if not isinstance(answer, dict) or "return" not in answer:
            why = answer.get("error") if isinstance(answer, dict) else None
            text = str(why.get("desc", why)) if isinstance(why, dict) else "its answer is none"
            raise GuestAgentError(f"{self._name}: the guest agent refused {command}: {text[:500]}")
        return answer["return"]

    async def run(self, argv: Sequence[str], stdin: bytes, output_limit_bytes: int) -> CommandResult:
        arguments: dict[str, object] = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
        if stdin:
            arguments["input-data"] = base64.b64encode(stdin).decode()
        pid = self._field(await self.ask("guest-exec", arguments), "pid", "guest-exec")
        pause_s = _FIRST_POLL_S
        while True:
            status = await self.ask("guest-exec-status", {"pid": pid})
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
                piece = await self.ask("guest-file-read", {"handle": handle, "count": count})
                content += self._decoded(self._field(piece, "buf-b64", "guest-file-read"), "guest-file-read")
                if self._field(piece, "eof", "guest-file-read"):
                    break
        return bytes(content)

    async def write_file(self, path: str, content: bytes) -> None:
        async with self._opened(path, "w") as handle:
            position = 0
            while position < len(content):
                piece = base64.b64encode(content[position : position + _CHUNK_BYTES]).decode()
                done = await self.ask("guest-file-write", {"handle": handle, "buf-b64": piece})
                written = self._field(done, "count", "guest-file-write")
                if not isinstance(written, int) or written <= 0:
                    raise GuestAgentError(f"{self._name}: the guest agent wrote nothing of {path}")
                position += written

    @contextlib.asynccontextmanager
    async def _opened(self, path: str, mode: str) -> AsyncIterator[Any]:
        handle = await self.ask("guest-file-open", {"path": path, "mode": mode})
        try:
            yield handle
        except GuestAgentError:
            with contextlib.suppress(GuestAgentError):
                await self.ask("guest-file-close", {"handle": handle})
            raise
        # not at a deadline: the stream is then in the middle of an answer, and nobody waits for another
        await self.ask("guest-file-close", {"handle": handle})

    async def _skip_to_delimiter(self) -> None:
        while (await self._reader.readexactly(1)) != _DELIMITER:
            pass

    async def _line(self) -> bytes:
        try:
            return await self._reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            raise GuestAgentError(
                f"{self._name}: the guest agent's answer is longer than {_LINE_LIMIT_BYTES} bytes"
            ) from error

    def _field(self, answer: Any, key: str, command: str) -> Any:
        try:
            return cast(dict[str, Any], answer)[key]
        except (KeyError, TypeError) as error:
            raise GuestAgentError(
                f"{self._name}: the guest agent's answer to {command} has no {key}"
            ) from error

    def _decoded(self, text: Any, command: str) -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except (TypeError, ValueError, binascii.Error) as error:
            raise GuestAgentError(
                f"{self._name}: the guest agent's answer to {command} is not base64"
            ) from error
