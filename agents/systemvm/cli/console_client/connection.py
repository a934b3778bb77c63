# SPDX-License-Identifier: Apache-2.0
"""One WebSocket connection of a console's session; wsproto speaks RFC 6455, asyncio does the I/O."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from attrs import frozen
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from systemvm.cli.console_client.session import ClientSession, cookie_of, plain
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.service.slowness import scaled_s
from systemvm.wire.console_close import ConsoleCloseCode

#: Pings tell both ends that the other one lives, also while this one does not read.
PING_INTERVAL_S = 10.0
_SILENCE_S = 35.0
_CONNECT_S = 30.0
_CLOSE_S = 1.0
_READ_BYTES = 64 * 1024
_MAX_NOTICE_CHARACTERS = 4096
_SUBPROTOCOL = "binary"
#: Answers of what is in front of a console proxy, or of one that restarts.
_NOT_NOW = frozenset({502, 503, 504})


@frozen
class ConnectionEnd:
    """How a connection ended: a close code, and what the console proxy says about it."""

    code: int
    reason: str = ""


LOST = ConnectionEnd(ConsoleCloseCode.ABNORMAL_CLOSURE)


class NotConnectedError(SystemVmError):
    """A connection that was not made."""

    code = FailureCode.UNAVAILABLE

    def __init__(self, end: ConnectionEnd) -> None:
        super().__init__(end.reason or "the console proxy cannot be reached")
        self.end = end


class ClientConnection:
    """A connection; `receive` returns messages until its end, which is in `end` then."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.end: ConnectionEnd | None = None
        self._reader = reader
        self._writer = writer
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._messages: deque[bytes | str] = deque()
        self._text = ""
        self._opened: AcceptConnection | None = None
        self._pinging: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, session: ClientSession) -> ClientConnection:
        """Connect, and take the session's next cookie.

        Raises: NotConnectedError with the end of the attempt.
        """
        link = session.link
        try:
            async with asyncio.timeout(scaled_s(_CONNECT_S)):
                reader, writer = await asyncio.open_connection(
                    link.host,
                    link.port,
                    ssl=session.trust,
                    server_hostname=link.host if session.trust is not None else None,
                )
        except (OSError, TimeoutError):
            raise NotConnectedError(LOST) from None
        connection = cls(reader, writer)
        await connection._upgrade(session)
        return connection

    async def _upgrade(self, session: ClientSession) -> None:
        request = Request(
            host=session.link.origin.partition("//")[2],
            target=session.websocket_path,
            subprotocols=[_SUBPROTOCOL],
            extra_headers=[
                (b"Origin", session.link.origin.encode()),
                (b"Cookie", session.cookie.encode()),
            ],
        )
        self._writer.write(self._protocol.send(request))
        while self._opened is None and self.end is None:
            await self._read()
        if self._opened is None:
            self._writer.close()
            raise NotConnectedError(self.end or LOST)
        headers = [
            bytes(value).decode("latin-1")
            for name, value in self._opened.extra_headers
            if bytes(name).lower() == b"set-cookie"
        ]
        session.cookie = cookie_of(headers) or session.cookie
        self._pinging = asyncio.create_task(self._ping())

    # -- messages

    async def receive(self) -> bytes | str | None:
        """Return the next message, or None at the end: text for the client itself, bytes for its user."""
        while not self._messages and self.end is None:
            await self._read()
        return self._messages.popleft() if self._messages else None

    async def send(self, data: bytes) -> None:
        """Send bytes, and wait while the console proxy does not take them."""
        if self.end is None:
            await self._write(BytesMessage(data=data))

    async def _write(self, event: Event) -> None:
        try:
            self._writer.write(self._protocol.send(event))
            await self._writer.drain()
        except (OSError, ProtocolError):
            self.end = self.end or LOST

    async def _ping(self) -> None:
        while self.end is None:
            await asyncio.sleep(PING_INTERVAL_S)
            if self.end is None:
                await self._write(Ping())

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(scaled_s(_SILENCE_S)):
                data = await self._reader.read(_READ_BYTES)
            self._protocol.receive_data(data or None)
            for event in self._protocol.events():
                await self._handle(event)
            if not data:
                self.end = self.end or LOST
        except (OSError, TimeoutError, ProtocolError):
            self.end = self.end or LOST

    async def _handle(self, event: Event) -> None:
        if isinstance(event, BytesMessage):
            self._messages.append(bytes(event.data))
        elif isinstance(event, TextMessage):
            self._text = (self._text + event.data)[:_MAX_NOTICE_CHARACTERS]
            if event.message_finished:
                self._messages.append(self._text)
                self._text = ""
        elif isinstance(event, Ping):
            await self._write(event.response())
        elif isinstance(event, AcceptConnection):
            self._opened = event
        elif isinstance(event, RejectConnection):
            not_now = event.status_code in _NOT_NOW
            self.end = LOST if not_now else ConnectionEnd(ConsoleCloseCode.SESSION_ENDED)
        elif isinstance(event, CloseConnection):
            await self._write(event.response())
            self.end = ConnectionEnd(event.code, plain(event.reason or ""))

    # -- the end

    async def close(self) -> None:
        """Close the connection; the console proxy then knows that nobody is at the session."""
        if self._pinging is not None:
            self._pinging.cancel()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                if self.end is None:
                    await self._write(CloseConnection(code=ConsoleCloseCode.NORMAL))
                    while self.end is None:
                        await self._read()
                        self._messages.clear()
                self._writer.close()
                await self._writer.wait_closed()
