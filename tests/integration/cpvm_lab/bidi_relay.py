# SPDX-License-Identifier: Apache-2.0
"""Runs Firefox for Playwright, and answers the WebDriver BiDi commands that Debian's ESR lacks in its place.

Playwright sends `emulation.setMediaFeaturesOverride` for each window and gives up when it fails; this Firefox
does not have it. Everything else passes. firefox.py's script starts it with Firefox's arguments.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from functools import partial

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    Request,
    TextMessage,
)

FIREFOX = "/usr/bin/firefox-esr"
LACKING = frozenset({"emulation.setMediaFeaturesOverride"})
_LISTENING = re.compile(r"WebDriver BiDi listening on ws://127\.0\.0\.1:(\d+)")


class End:
    """One end of the relay: a WebSocket on a stream."""

    def __init__(
        self, kind: ConnectionType, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._protocol = WSConnection(kind)
        self._reader = reader
        self._writer = writer

    async def send(self, event: Event) -> None:
        self._writer.write(self._protocol.send(event))
        await self._writer.drain()

    async def receive(self) -> list[Event] | None:
        """Return the next events; None at the end."""
        data = await self._reader.read(1 << 16)
        if not data:
            return None
        self._protocol.receive_data(data)
        events = list(self._protocol.events())
        for event in events:
            if isinstance(event, Ping):
                await self.send(event.response())
        return events

    def close(self) -> None:
        self._writer.close()


async def _to_browser(client: End, browser: End) -> None:
    text = ""
    while (events := await client.receive()) is not None:
        for event in events:
            if isinstance(event, TextMessage):
                text += event.data
                if event.message_finished:
                    message, text = text, ""
                    command = json.loads(message)
                    if command["method"] in LACKING:
                        done = {"type": "success", "id": command["id"], "result": {}}
                        await client.send(TextMessage(json.dumps(done)))
                    else:
                        await browser.send(TextMessage(message))
            elif isinstance(event, CloseConnection):
                return


async def _to_client(browser: End, client: End) -> None:
    while (events := await browser.receive()) is not None:
        for event in events:
            if isinstance(event, TextMessage):
                await client.send(TextMessage(event.data, message_finished=event.message_finished))
            elif isinstance(event, CloseConnection):
                return


async def _relay(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    client = End(ConnectionType.SERVER, reader, writer)
    browser = End(ConnectionType.CLIENT, *await asyncio.open_connection("127.0.0.1", port, limit=1 << 24))
    await browser.send(Request(host=f"127.0.0.1:{port}", target="/session"))
    if any(isinstance(event, Request) for event in await client.receive() or []):
        await browser.receive()  # its answer to the upgrade
        await client.send(AcceptConnection())
        ways = [
            asyncio.create_task(_to_browser(client, browser)),
            asyncio.create_task(_to_client(browser, client)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
    client.close()
    browser.close()


async def main() -> int:
    firefox = await asyncio.create_subprocess_exec(FIREFOX, *sys.argv[1:], stderr=asyncio.subprocess.PIPE)
    assert firefox.stderr is not None
    async for line in firefox.stderr:
        text = line.decode(errors="replace")
        listening = _LISTENING.search(text)
        if listening is not None:
            port = int(listening[1])
            server = await asyncio.start_server(partial(_relay, port), "127.0.0.1", 0)
            own = server.sockets[0].getsockname()[1]
            text = _LISTENING.sub(f"WebDriver BiDi listening on ws://127.0.0.1:{own}", text)
        sys.stderr.write(text)
        sys.stderr.flush()
    return await firefox.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
