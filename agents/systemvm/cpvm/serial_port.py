# SPDX-License-Identifier: Apache-2.0
"""A VM's serial port with all of its consoles: QEMU serves one client, and this CPVM shares it.

The port is always read, because the machine waits for a client that does not. A console that reads slowly
misses output instead. Input of all consoles is sent in the order in which it arrives; while the machine does
not accept it, those who type wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from systemvm.cpvm.serial_output import SerialOutput, without_overlap
from systemvm.cpvm.target_stream import TargetStream

_buffer = memoryview(bytearray(64 * 1024))

#: QEMU takes from a TLS record what its UART has room for, at times one byte, and looks at the rest of the
#: record only when another one comes: a line that is pasted would stop after its first characters.
_RECORD_BYTES = 1
#: Records cost time; others have their turn after so many.
_RECORDS_AT_ONCE = 512


class SerialConsole(Protocol):
    """One of the port's consoles."""

    may_type: bool

    def output_ready(self) -> None: ...

    def input_ready(self) -> None:
        """The machine accepts input again."""

    def answers_changed(self) -> None:
        """Another console answers the queries of the machine's programs now."""

    def port_closed(self) -> None: ...


@implementer(IReadWriteDescriptor)
class SerialPort:
    """A connected port; `on_close` is called once, when the machine or the last console has left."""

    def __init__(
        self, reactor: Any, stream: TargetStream, history: bytes, on_close: Callable[[SerialPort], None]
    ) -> None:
        self._reactor = reactor
        self._stream: TargetStream | None = stream
        self._on_close = on_close
        self._history = history  # until the first output is known
        self._consoles: list[SerialConsole] = []
        self._unsent = bytearray()
        self._read_pending_call: IDelayedCall | None = None
        self.output = SerialOutput()
        self.output.append(history)

    def start(self) -> None:
        """Begin to read; called when the history was fetched."""
        self._reactor.addReader(self)
        self.doRead()
        self._history = b""

    @property
    def is_open(self) -> bool:
        return self._stream is not None

    @property
    def answering(self) -> SerialConsole | None:
        """The console whose terminal answers a program's queries: two answers would be one too many."""
        return next((console for console in self._consoles if console.may_type), None)

    def join(self, console: SerialConsole) -> None:
        self._consoles.append(console)

    def leave(self, console: SerialConsole) -> None:
        """Remove a console; the last one closes the port."""
        if console not in self._consoles:
            return
        answered = self.answering
        self._consoles.remove(console)
        if not self._consoles:
            self.close()
        elif answered is console and (next_one := self.answering) is not None:
            next_one.answers_changed()

    def close_if_unused(self) -> None:
        if not self._consoles:
            self.close()

    # -- from the machine

    def doRead(self) -> None:
        if self._stream is None:
            return
        try:
            count = self._stream.read_into(_buffer)
        except BlockingIOError:
            if self._stream.reading_needs_write:
                self._reactor.addWriter(self)
            return
        except OSError:
            count = 0
        if not count:
            self._lost()
            return
        data = without_overlap(self._history, bytes(_buffer[:count])) if self._history else _buffer[:count]
        self._history = b""
        self.output.append(data)
        for console in list(self._consoles):
            console.output_ready()
        if self._stream is not None and self._read_pending_call is None and self._stream.has_pending():
            self._read_pending_call = self._reactor.callLater(0, self._read_pending)

    def _read_pending(self) -> None:
        self._read_pending_call = None
        self.doRead()

    # -- to the machine

    def write(self, data: bytes) -> bool:
        """Send input; return False when it waits and `input_ready` will be called."""
        self._unsent += data
        self._flush()
        return not self._unsent

    def doWrite(self) -> None:
        if self._stream is None:
            return
        needs_write = self._stream.reading_needs_write
        self._flush()
        if needs_write and self._stream is not None:
            if not self._unsent:
                self._reactor.removeWriter(self)
            self.doRead()

    def _flush(self) -> None:
        if self._stream is None:
            return
        waited = bool(self._unsent)
        try:
            for _ in range(min(_RECORDS_AT_ONCE, len(self._unsent))):
                del self._unsent[: self._stream.write(bytes(self._unsent[:_RECORD_BYTES]))]
            if self._unsent:
                raise BlockingIOError
        except BlockingIOError:
            self._reactor.addWriter(self)
            return
        except OSError:
            self._lost()
            return
        if waited:
            self._reactor.removeWriter(self)
            for console in list(self._consoles):
                console.input_ready()

    # -- the end

    def _lost(self) -> None:
        consoles, self._consoles = self._consoles, []
        self.close()
        for console in consoles:
            console.port_closed()

    def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        if self._read_pending_call is not None:
            self._read_pending_call.cancel()
            self._read_pending_call = None
        self._unsent.clear()
        stream.close()
        self._on_close(self)

    def fileno(self) -> int:
        return -1 if self._stream is None else self._stream.fileno()

    def connectionLost(self, reason: Failure) -> None:
        """Handle an error of the socket that the reactor found."""
        if self._stream is not None:
            self._lost()

    def logPrefix(self) -> str:
        return "serial port"
