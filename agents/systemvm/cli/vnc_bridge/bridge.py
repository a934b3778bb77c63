# SPDX-License-Identifier: Apache-2.0
"""Relays a VM's screen to one VNC viewer at a time, until the user or the session ends it.

RFB cannot go on over another connection to the VNC server: its compressors begin again, the viewer's do not.
So a lost connection to the console proxy ends the viewer's, too, and the next viewer gets a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable

from attrs import frozen

from systemvm.cli.console_client.session import ClientSession
from systemvm.cli.vnc_bridge.handshakes import GREETING, ViewerHandshake
from systemvm.cli.vnc_bridge.listener import ViewerListener
from systemvm.cli.vnc_bridge.screen_link import ReadyScreen, ScreenLink
from systemvm.service.rfb_handshake import RfbError

_READ_BYTES = 16 * 1024
#: Somebody types a password meanwhile.
_HANDSHAKE_S = 600.0
#: After a wrong password: guessing 8 characters takes too long anyway, and must not cost CPU.
_WRONG_PASSWORD_S = 1.0
_MOST_HANDSHAKES = 8
#: By Ctrl-C the user ends the bridge as intended; other signals are reported as shells do.
_EXIT_CODES = {signal.SIGINT: 0, signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGHUP: 128 + signal.SIGHUP}


@frozen
class _Viewer:
    """A viewer after its handshake."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    early: bytes  # what it has sent after the handshake

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.writer.close()


class VncBridge:
    """Admits viewers at a listener; `command` starts one, whose end is the bridge's."""

    def __init__(
        self,
        session: ClientSession,
        listener: ViewerListener,
        say: Callable[[str], None],
        command: list[str] | None = None,
    ) -> None:
        self._listener = listener
        self._command = command
        self._loop = asyncio.get_running_loop()
        self._link = ScreenLink(session, say)
        self._say = say
        self._admitted: asyncio.Queue[_Viewer] = asyncio.Queue(1)
        self._has_viewer = False
        self._handshakes = 0
        self._ended: asyncio.Future[int] = self._loop.create_future()

    async def run(self, on_ready: Callable[[], None]) -> int:
        """Relay until the end, and return the exit code; `on_ready` is called when the screen is there.

        Raises: CommandFailedError when the session has ended.
        """
        for number, code in _EXIT_CODES.items():
            self._loop.add_signal_handler(number, self._end, code)
        screen = await self._link.connect()
        server = await self._serve()
        on_ready()
        tasks = [asyncio.create_task(self._work(screen))]
        if self._command is not None:
            tasks.append(asyncio.create_task(self._run_command(self._command)))
        try:
            ends: set[asyncio.Future[int]] = {*tasks, self._ended}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return next(end for end in ends if end.done()).result()
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)

    async def _run_command(self, command: list[str]) -> int:
        """Run the viewer that was asked for, and end it with the bridge."""
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
        try:
            await process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        return 0

    # -- viewers

    async def _serve(self) -> asyncio.Server:
        if self._listener.path is not None:
            return await asyncio.start_unix_server(self._accept, sock=self._listener.socket)
        return await asyncio.start_server(self._accept, sock=self._listener.socket)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Admit a viewer when it is the only one, and knows the password."""
        handshake = ViewerHandshake(self._listener.password)
        is_admitted = False
        if self._handshakes < _MOST_HANDSHAKES and not self._has_viewer:
            self._handshakes += 1
            try:
                async with asyncio.timeout(_HANDSHAKE_S):
                    is_admitted = await self._shake_hands(handshake, reader, writer)
            except (OSError, TimeoutError, RfbError):
                pass  # it left, or is no viewer
            finally:
                self._handshakes -= 1
        viewer = _Viewer(reader, writer, handshake.rest())
        if not is_admitted or self._has_viewer:
            viewer.close()
            return
        self._has_viewer = True
        self._admitted.put_nowait(viewer)

    async def _shake_hands(
        self, handshake: ViewerHandshake, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        writer.write(GREETING)
        while not handshake.done:
            data = await reader.read(_READ_BYTES)
            if not data:
                return False
            writer.write(handshake.receive(data))
            await writer.drain()
        if handshake.is_refused:
            self._say("a viewer gave a wrong password")
            await asyncio.sleep(_WRONG_PASSWORD_S)
        return not handshake.is_refused

    # -- the screen

    async def _work(self, screen: ReadyScreen) -> int:
        """Give each viewer a connection of its own; ends only by an exception."""
        while True:
            try:
                viewer = await self._next_viewer(screen)
                if viewer is not None:
                    await self._relay(screen, viewer)
                end = screen.end  # None when the viewer has left
            finally:
                await screen.close()
            screen = await self._link.connect(end)

    async def _next_viewer(self, screen: ReadyScreen) -> _Viewer | None:
        """Return the next viewer, or None when the screen's connection ends before."""
        admission = asyncio.create_task(self._admitted.get())
        ending = asyncio.create_task(screen.ended())
        try:
            await asyncio.wait({admission, ending}, return_when=asyncio.FIRST_COMPLETED)
            return admission.result() if admission.done() else None
        finally:
            admission.cancel()
            ending.cancel()

    async def _relay(self, screen: ReadyScreen, viewer: _Viewer) -> None:
        """Relay until the viewer or the screen leaves."""
        self._say("a viewer is connected")
        directions = [
            asyncio.create_task(self._show(screen, viewer)),
            asyncio.create_task(self._control(screen, viewer)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            viewer.close()
            self._has_viewer = False
        if screen.end is None:
            self._say("the viewer has left")

    async def _show(self, screen: ReadyScreen, viewer: _Viewer) -> None:
        viewer.writer.write(screen.server_init)
        while (data := await screen.receive()) is not None:
            viewer.writer.write(data)
            await viewer.writer.drain()

    async def _control(self, screen: ReadyScreen, viewer: _Viewer) -> None:
        data = viewer.early
        while True:
            if data:
                await screen.send(data)
            data = await viewer.reader.read(_READ_BYTES)
            if not data:
                return


def run(
    session: ClientSession,
    listener: ViewerListener,
    say: Callable[[str], None],
    on_ready: Callable[[], None],
    command: list[str] | None,
) -> int:
    """Run a bridge until its end.

    Raises: CommandFailedError when the session has ended.
    """

    async def relay() -> int:
        return await VncBridge(session, listener, say, command).run(on_ready)

    return asyncio.run(relay())
