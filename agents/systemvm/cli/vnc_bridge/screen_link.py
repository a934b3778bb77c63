# SPDX-License-Identifier: Apache-2.0
"""The bridge's connections to the console proxy: one after another, each after its RFB handshake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from systemvm.cli.console_client import notices
from systemvm.cli.console_client.connection import (
    LOST,
    ClientConnection,
    ConnectionEnd,
    NotConnectedError,
)
from systemvm.cli.console_client.reconnection import Reconnection, as_clause, explain
from systemvm.cli.console_client.session import ClientSession
from systemvm.cli.daemon_client import CommandFailedError
from systemvm.cli.vnc_bridge.handshakes import ScreenHandshake
from systemvm.service.rfb_handshake import RfbError

#: Of a read from the network each: what waits for a viewer that is slow, or has not come.
_MOST_WAITING = 16


class ReadyScreen:
    """A connection after its handshake. It is read at once, so that its end is noticed without a viewer."""

    def __init__(
        self, connection: ClientConnection, server_init: bytes, early: bytes, say: Callable[[str], None]
    ) -> None:
        self.server_init = server_init
        self._connection = connection
        self._say = say
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue(_MOST_WAITING)
        if early:
            self._waiting.put_nowait(early)
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        """Sort what arrives: bytes are for the viewer, text is for this program."""
        while (message := await self._connection.receive()) is not None:
            if isinstance(message, bytes):
                await self._waiting.put(message)
            elif (said := notices.sentence(notices.parse(message))) is not None:
                self._say(said)
        await self._waiting.put(None)

    async def ended(self) -> None:
        """Wait for the end of a connection that no viewer uses."""
        await asyncio.wait({self._reading})

    async def receive(self) -> bytes | None:
        """Return the next bytes for the viewer, or None at the end."""
        return await self._waiting.get()

    async def send(self, data: bytes) -> None:
        await self._connection.send(data)

    @property
    def end(self) -> ConnectionEnd | None:
        return self._connection.end

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._connection.close()


class ScreenLink:
    """Connects to a session's screen as often as it is needed, until the session has ended."""

    def __init__(self, session: ClientSession, say: Callable[[str], None]) -> None:
        self._session = session
        self._say = say
        self._reconnection = Reconnection(asyncio.get_running_loop().time)

    async def connect(self, before: ConnectionEnd | None = None) -> ReadyScreen:
        """Return a connection, after the end of the one before.

        Raises: CommandFailedError with the reason why there is none any more.
        """
        end = before
        if end is not None:
            await self._wait_after(end, says=True)
        while True:
            try:
                return await self._open()
            except NotConnectedError as failed:
                await self._wait_after(failed.end, says=end is None)
                end = failed.end

    async def _wait_after(self, end: ConnectionEnd, *, says: bool) -> None:
        wait_s = self._reconnection.wait_s(end)
        if wait_s is None:
            raise CommandFailedError(*explain(self._session.name, end))
        if says:
            self._say(f"{as_clause(end.reason or 'the connection was lost')}; reconnecting")
        await asyncio.sleep(wait_s)

    async def _open(self) -> ReadyScreen:
        connection = await ClientConnection.open(self._session)
        self._reconnection.connected()
        handshake = ScreenHandshake()
        try:
            while not handshake.done:
                message = await connection.receive()
                if message is None:
                    raise NotConnectedError(connection.end or LOST)
                if isinstance(message, bytes) and (answer := handshake.receive(message)):
                    await connection.send(answer)
        except (RfbError, NotConnectedError) as failed:
            await connection.close()
            if isinstance(failed, RfbError):
                raise CommandFailedError(
                    f"console of {self._session.name} cannot be used: {failed}", ""
                ) from None
            raise
        self._reconnection.used()
        return ReadyScreen(connection, handshake.server_init, handshake.rest(), self._say)
