# SPDX-License-Identifier: Apache-2.0
"""A serial console at standard input and output, from the first connection to the end of its session."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from attrs import frozen

from systemvm.cli.console_client.connection import LOST, ClientConnection, NotConnectedError
from systemvm.cli.console_client.reconnection import Reconnection, as_clause, explain
from systemvm.cli.console_client.session import ClientSession
from systemvm.cli.daemon_client import CommandFailedError
from systemvm.cli.terminal import escape_key
from systemvm.cli.terminal.keyboard_input import KeyboardInput
from systemvm.cli.terminal.raw_mode import RawMode
from systemvm.cli.terminal.screen_output import ScreenOutput
from systemvm.cli.terminal.serial_view import SerialView

#: A message of the console proxy has at most as many bytes; input in larger ones is refused.
_PIECE_BYTES = 16 * 1024
#: As shells report the end by a signal.
_EXIT_BY_SIGNAL = 128


@frozen
class TerminalOptions:
    """How a serial console behaves at this terminal."""

    escape: int | None = escape_key.parse(escape_key.DEFAULT)
    shows_history: bool = True
    #: After the end of the input, how long the machine must write nothing until the console ends.
    quiet_exit_s: float = 2.0
    standard_input: int = 0
    standard_output: int = 1


def run(session: ClientSession, options: TerminalOptions) -> int:
    """Connect the terminal until the user leaves, and return the exit code.

    Raises: CommandFailedError when the session has ended.
    """

    async def connect(raw: RawMode) -> int:
        return await _SerialTerminal(session, options, raw).run()

    with RawMode(options.standard_input, options.standard_output) as raw:
        return asyncio.run(connect(raw))


class _SerialTerminal:
    def __init__(self, session: ClientSession, options: TerminalOptions, raw: RawMode) -> None:
        self._session = session
        self._options = options
        self._raw = raw
        self._loop = asyncio.get_running_loop()
        self._reconnection = Reconnection(self._loop.time)
        self._input = KeyboardInput(options.standard_input, options.escape)
        self._output = ScreenOutput(options.standard_output)
        self._view = SerialView(
            is_terminal=os.isatty(options.standard_output), shows_history=options.shows_history
        )
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._opened = asyncio.Event()  # the port, for this connection
        self._received = asyncio.Event()  # anything from the machine

    async def run(self) -> int:
        self._greet()
        with self._signals():
            work = asyncio.create_task(self._work())
            escaped = asyncio.create_task(self._input.escaped.wait())
            self._input.start()
            try:
                ends: set[asyncio.Future[Any]] = {work, escaped, self._ended}
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    return work.result()
                return self._ended.result() if self._ended.done() else 0
            finally:
                self._input.stop()
                escaped.cancel()
                work.cancel()
                await asyncio.gather(work, escaped, return_exceptions=True)

    def _greet(self) -> None:
        if self._raw.is_terminal and self._options.escape is not None:
            key = escape_key.describe(self._options.escape)
            self._say(f"serial port of {self._session.name}: {key} leaves")
        if self._session.is_recorded:
            self._say("this console is recorded")
        if self._session.is_view_only:
            self._say("this console takes no input")
        elif not self._raw.is_terminal and not self._session.may("clipboard_to_guest"):
            self._say("only single keys are permitted: longer input is dropped")

    def _say(self, text: str) -> None:
        """Write a line about the console, not of it; a raw terminal needs the carriage return."""
        with contextlib.suppress(OSError):  # the terminal is gone
            sys.stderr.write(f"[{text}]\r\n" if self._raw.is_terminal else f"[{text}]\n")
            sys.stderr.flush()

    # -- signals

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in ends:
            self._loop.add_signal_handler(number, self._end, _EXIT_BY_SIGNAL + number)
        self._loop.add_signal_handler(signal.SIGTSTP, self._raw.suspend)
        self._loop.add_signal_handler(signal.SIGCONT, self._raw.enter)
        try:
            yield
        finally:
            for number in (*ends, signal.SIGTSTP, signal.SIGCONT):
                self._loop.remove_signal_handler(number)

    def _end(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)

    # -- connections

    async def _work(self) -> int:
        says = True  # once for each connection that was lost, not for each attempt
        while True:
            try:
                connection = await ClientConnection.open(self._session)
            except NotConnectedError as failed:
                end = failed.end
            else:
                self._reconnection.connected()
                says = True
                try:
                    if await self._use(connection):
                        return 0
                finally:
                    await connection.close()
                end = connection.end or LOST
            wait_s = self._reconnection.wait_s(end)
            if wait_s is None:
                raise CommandFailedError(*explain(self._session.name, end))
            if says:
                says = False
                self._say(f"{as_clause(end.reason or 'the connection was lost')}; reconnecting")
            await asyncio.sleep(wait_s)

    async def _use(self, connection: ClientConnection) -> bool:
        """Relay until the connection ends; return whether the console ends because the input has."""
        self._opened.clear()
        self._view.connecting()
        showing = asyncio.create_task(self._show(connection))
        typing = asyncio.create_task(self._type(connection))
        try:
            await asyncio.wait({showing, typing}, return_when=asyncio.FIRST_COMPLETED)
            if showing.done():
                showing.result()  # raises what ended it
                return False
            typing.result()
            return True
        finally:
            for task in (showing, typing):
                task.cancel()
            await asyncio.gather(showing, typing, return_exceptions=True)

    async def _show(self, connection: ClientConnection) -> None:
        while (message := await connection.receive()) is not None:
            if isinstance(message, str):
                if (said := self._view.notice(message)) is not None:
                    self._say(said)
                if self._view.is_open:
                    self._opened.set()
                continue
            self._received.set()
            self._reconnection.used()
            try:
                await self._output.write(self._view.received(message))
            except OSError:  # as when the next program of a pipe has ended
                self._end(0)

    async def _type(self, connection: ClientConnection) -> None:
        """Send the input; return when it has ended and the machine is quiet."""
        await self._opened.wait()
        while data := await self._input.read():
            for at in range(0, len(data), _PIECE_BYTES):
                await connection.send(data[at : at + _PIECE_BYTES])
        is_quiet = False
        while not is_quiet:
            self._received.clear()
            try:
                await asyncio.wait_for(self._received.wait(), self._options.quiet_exit_s)
            except TimeoutError:
                is_quiet = True
