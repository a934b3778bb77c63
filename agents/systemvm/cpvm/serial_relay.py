# SPDX-License-Identifier: Apache-2.0
"""One browser's part of a serial port, in the place of the relay of a screen.

Output is in binary messages, input too; text messages tell the page how much of the output is older than the
console, and whether its terminal answers a program's queries.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from systemvm.cpvm.serial_port import SerialPort
from systemvm.cpvm.websocket import binary_frame, text_frame
from systemvm.web.tls_transport import TlsTransport
from systemvm.wire.console import ConsolePolicy

_PIECE_BYTES = 16 * 1024
#: A key sends at most as much; a terminal's answers, too. Pasted text is longer.
KEY_BYTES = 32


class SerialRelay:
    """Relays between a port and a browser; `on_port_closed` is called when the machine closes the port.

    `record` gets what the browser gets. While `must_wait` returns True the recorder is behind and nothing is
    sent; `go_on` is called when it has caught up.
    """

    def __init__(
        self,
        port: SerialPort,
        browser: TlsTransport,
        policy: ConsolePolicy,
        on_port_closed: Callable[[], None],
        record: Callable[[bytes], None] | None = None,
        must_wait: Callable[[], bool] = lambda: False,
    ) -> None:
        self.may_type = not policy.view_only
        self._may_paste = policy.clipboard_to_guest
        self._port: SerialPort | None = port
        self._browser = browser
        self._on_port_closed = on_port_closed
        self._record = record
        self._must_wait = must_wait
        self._is_held = False
        self._position = port.output.start
        self._browser_paused = False
        self.sent_bytes = 0  # to the browser

    def start(self) -> None:
        """Send what the port has written before, and from now on what it writes."""
        port = self._port
        if port is None:
            return
        if not port.is_open:  # it has just been closed
            self.port_closed()
            return
        port.join(self)
        self._tell(
            {
                "notice": "serial",
                "scrollback": port.output.end - self._position,
                "answers": port.answering is self,
            }
        )
        self.output_ready()

    def output_ready(self) -> None:
        while self._port is not None and not (self._browser.is_blocked or self._waits()):
            skipped, data = self._port.output.read(self._position, _PIECE_BYTES)
            if not data:
                return
            self._position += skipped + len(data)
            note = f"\r\n\x1b[0;7m {skipped} bytes were skipped \x1b[0m\r\n".encode() if skipped else b""
            self.sent_bytes += len(data)
            self._browser.send(binary_frame(note + data))
            if self._record is not None:
                self._record(note + data)

    browser_drained = output_ready

    def hold(self) -> None:
        """Send nothing until `go_on`; what is not kept until then is skipped, as with a slow browser."""
        self._is_held = True

    def go_on(self) -> None:
        self._is_held = False
        self.output_ready()

    def _waits(self) -> bool:
        return self._is_held or (self._record is not None and self._must_wait())

    def write(self, data: bytes) -> None:
        """Send input of the browser as far as the policy permits it."""
        if self._port is None or not self.may_type or (len(data) > KEY_BYTES and not self._may_paste):
            return
        if not self._port.write(data) and not self._browser_paused:
            self._browser_paused = True
            self._browser.pauseProducing()

    def input_ready(self) -> None:
        if self._browser_paused:
            self._browser_paused = False
            self._browser.resumeProducing()

    def answers_changed(self) -> None:
        self._tell({"notice": "answers"})

    def _tell(self, message: dict[str, object]) -> None:
        self._browser.send(text_frame(msgspec.json.encode(message)))

    def port_closed(self) -> None:
        on_port_closed = self._on_port_closed
        self.close()
        on_port_closed()

    def close(self) -> None:
        port, self._port = self._port, None
        if port is None:
            return
        self._on_port_closed = _nothing
        port.leave(self)
        self.input_ready()


def _nothing() -> None:
    """Stand for the callback of a relay that is closed."""
