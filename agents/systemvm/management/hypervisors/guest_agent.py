# SPDX-License-Identifier: Apache-2.0
"""A client of qemu-guest-agent, for a machine without a network: commands, files, clock.

QEMU connects a virtio-serial port of the guest to a UNIX socket. A command waits in the socket until the
guest's program opens its port, so that waiting for a machine to boot is one read and no polling.

The connection is kept between sessions: while no client is connected, the guest's read of its port ends at
once, and qemu-ga tries again ten times a second (qga/main.c, channel_event_cb), which costs an emulated guest
one percent of a core and keeps its kernel from sleeping.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from attrs import frozen
from twisted.logger import Logger

from systemvm.management.asyncio_bridge import in_asyncio
from systemvm.management.hypervisors.guest_agent_session import (
    LINE_LIMIT_BYTES,
    CommandResult,
    GuestAgentError,
    GuestAgentSession,
    GuestAgentSilentError,
)
from systemvm.management.hypervisors.process import connect_unix
from systemvm.service.slowness import TimeoutScale, unscaled

#: The deadline of a simple answer from a running guest; emulated ones are slow.
ANSWER_S = 10.0
EXEC_S = 60.0
FILE_S = 30.0
#: The guest writes its caches before it holds its file systems still.
FREEZE_S = 60.0
#: Of what a user's guest sends, which can be anything; twice as much is buffered until somebody reads it.
USER_LINE_LIMIT_BYTES = 64 * 1024
_THAW_ATTEMPTS = 3
#: qemu-ga itself ends a capture at 16 MiB, which is 22 MB of base64 a stream.
OUTPUT_LIMIT_BYTES = 1024 * 1024

T = TypeVar("T")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


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


class GuestAgent:
    """The guest agent of one machine.

    Every call is a session of its own and has a deadline.
    Raises: GuestAgentError when the guest agent rejects a command, or GuestAgentSilentError when it is late.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        connect: Callable[[], Awaitable[Streams]],
        timeout_scale: TimeoutScale = unscaled,
    ) -> None:
        """`timeout_scale` multiplies every `timeout_s` at the beginning of a call."""
        self._name = name
        self._timeout_scale = timeout_scale
        self._connect = connect
        # QEMU serves one client at a time; a second one would wait without a reason
        self._lock = asyncio.Lock()
        self._streams: Streams | None = None

    @classmethod
    def on_socket(
        cls,
        name: str,
        channel: Path,
        timeout_scale: TimeoutScale = unscaled,
        limit_bytes: int = LINE_LIMIT_BYTES,
    ) -> GuestAgent:
        """Return the guest agent behind the UNIX socket that QEMU listens on."""

        async def connect() -> Streams:
            return await asyncio.open_unix_connection(sock=connect_unix(channel), limit=limit_bytes)

        return cls(name, connect, timeout_scale)

    async def hold(self) -> None:
        """Connect now and stay connected, so that the guest's program can sleep; for asyncio, never fails."""
        async with self._lock:
            if self._streams is None:
                with contextlib.suppress(OSError):
                    self._streams = await self._connect()

    def release(self) -> None:
        """Disconnect, so that another process can connect to the guest agent."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()

    async def ping(self, *, timeout_s: float = ANSWER_S) -> None:
        """Wait until the guest agent answers; with a long `timeout_s` this waits for a boot."""

        async def no_command(_: GuestAgentSession) -> None:
            return None

        await self._run_session(no_command, timeout_s)

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout_s: float = EXEC_S,
        output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
    ) -> CommandResult:
        """Run a program as root. It continues after the deadline: qemu-ga cannot end it."""
        return await self._run_session(
            lambda session: session.run(argv, stdin, output_limit_bytes), timeout_s
        )

    async def read_file(
        self, path: str, *, limit_bytes: int = OUTPUT_LIMIT_BYTES, timeout_s: float = FILE_S
    ) -> bytes:
        """Return the first `limit_bytes` of a file."""
        return await self._run_session(lambda session: session.read_file(path, limit_bytes), timeout_s)

    async def write_file(self, path: str, content: bytes, *, timeout_s: float = FILE_S) -> None:
        """Write a whole file. qemu-ga creates files with mode 0666: write secrets to an existing one."""
        await self._run_session(lambda session: session.write_file(path, content), timeout_s)

    async def os_info(self, *, timeout_s: float = ANSWER_S) -> dict[str, str]:
        """Return `/etc/os-release` and uname: id, pretty-name, version-id, kernel-release, machine, …"""
        answer = await self._execute("guest-get-osinfo", timeout_s=timeout_s)
        return {str(key): str(value) for key, value in answer.items()} if isinstance(answer, dict) else {}

    async def network_interfaces(self, *, timeout_s: float = ANSWER_S) -> list[GuestInterface]:
        """Return the NICs of the guest and their addresses, with loopback."""
        answer = await self._execute("guest-network-get-interfaces", timeout_s=timeout_s)
        try:
            return [
                GuestInterface(
                    nic["name"],
                    nic.get("hardware-address"),
                    tuple(
                        GuestAddress(address["ip-address"], int(address["prefix"]))
                        for address in nic.get("ip-addresses", [])
                    ),
                )
                for nic in answer
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise self._unexpected("guest-network-get-interfaces") from error

    async def clock_skew_s(self, *, timeout_s: float = ANSWER_S) -> float:
        """Return the guest's clock minus the host's at the middle of the round trip."""
        before = time.time()
        answer = await self._execute("guest-get-time", timeout_s=timeout_s)
        after = time.time()
        if not isinstance(answer, int):
            raise self._unexpected("guest-get-time")
        return answer / 1e9 - (before + after) / 2

    async def set_time(self, unix_s: float | None = None, *, timeout_s: float = ANSWER_S) -> None:
        """Set the guest's clock and its RTC, by default to this host's time."""
        moment = time.time() if unix_s is None else unix_s
        await self._execute("guest-set-time", {"time": int(moment * 1e9)}, timeout_s=timeout_s)

    @contextlib.asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """Hold the guest's file systems still, with their caches written. For asyncio.

        Raises: GuestAgentError when the guest does not: then its file systems are not still.
        """
        if await self._within(lambda session: session.execute("guest-fsfreeze-status"), ANSWER_S) != "thawed":
            await self._thaw()  # a daemon was killed in here
        try:
            await self._within(lambda session: session.execute("guest-fsfreeze-freeze"), FREEZE_S)
            yield
        finally:
            # also when the answer was late: the guest can have done it since
            await self._thaw()

    async def _thaw(self) -> None:
        """Let the guest write again. A failure is logged: what was done meanwhile is complete."""
        for attempt in range(1, _THAW_ATTEMPTS + 1):
            try:
                await self._within(lambda session: session.execute("guest-fsfreeze-thaw"), ANSWER_S)
                return
            except GuestAgentError as error:
                if attempt == _THAW_ATTEMPTS:
                    self._log.error(
                        "file systems of {name} can still be frozen; restart the VM if it hangs: {why}",
                        name=self._name,
                        why=error.message,
                    )

    # ---- asyncio's side -------------------------------------------------------------------------------

    async def _execute(
        self, command: str, arguments: dict[str, object] | None = None, *, timeout_s: float
    ) -> Any:
        return await self._run_session(lambda session: session.execute(command, arguments), timeout_s)

    async def _run_session(self, body: Callable[[GuestAgentSession], Awaitable[T]], timeout_s: float) -> T:
        return await in_asyncio(self._within(body, timeout_s))

    async def _within(self, body: Callable[[GuestAgentSession], Awaitable[T]], timeout_s: float) -> T:
        command = ["guest-sync-delimited"]
        timeout_s *= self._timeout_scale()
        try:
            async with asyncio.timeout(timeout_s), self._lock, self._connected(command) as session:
                await session.synchronise()
                return await body(session)
        except TimeoutError as error:
            if command[0] == "guest-sync-delimited":
                raise GuestAgentSilentError(
                    f"{self._name}: guest agent did not answer within {timeout_s:g} s",
                    "wait until the guest has booted, and check that it runs qemu-guest-agent",
                ) from error
            raise GuestAgentSilentError(
                f"{self._name}: guest agent did not finish {command[0]} within {timeout_s:g} s"
            ) from error

    @contextlib.asynccontextmanager
    async def _connected(self, command: list[str]) -> AsyncIterator[GuestAgentSession]:
        try:
            reader, writer = self._streams or await self._connect()
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise GuestAgentSilentError(
                f"{self._name}: machine has no channel to its guest agent",
                "check that the machine runs; a VM has the channel from its next start on",
            ) from error
        except OSError as error:  # EAGAIN: QEMU's queue of clients is full
            raise GuestAgentSilentError(
                f"{self._name}: QEMU does not accept a client of the guest agent: {error.strerror}"
            ) from error
        self._streams = reader, writer
        try:
            yield GuestAgentSession(self._name, reader, writer, command)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            self.release()
            raise GuestAgentSilentError(f"{self._name}: machine ended during {command[0]}") from error
        except BaseException:
            self.release()  # the rest of an unread answer ends with the connection
            with contextlib.suppress(OSError):
                self._streams = await self._connect()
            raise

    def _unexpected(self, command: str) -> GuestAgentError:
        return GuestAgentError(f"{self._name}: answer of the guest agent to {command} is invalid")
