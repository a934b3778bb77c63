# SPDX-License-Identifier: Apache-2.0
"""The serial ports that this CPVM is connected to: a console joins one, or connects to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.cpvm.serial_port import SerialPort
from systemvm.cpvm.target_link import TargetLink
from systemvm.cpvm.target_stream import TargetStream
from systemvm.service.scaled_timer import ScaledTimer
from systemvm.service.single_flight import SingleFlight
from systemvm.wire.console import ConsoleScrollback, ConsoleTarget

CONNECT_DEADLINE_S = 10.0

#: What went wrong is the same as with a screen; the page names the serial port.
_REFUSALS = {
    BrowserRefusal.SCREEN_UNTRUSTED: BrowserRefusal.SERIAL_UNTRUSTED,
    BrowserRefusal.SCREEN_UNENCRYPTED: BrowserRefusal.SERIAL_UNTRUSTED,
}


class SerialPorts:
    """Ports by the machine's address and port."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._open: dict[tuple[str, int], SerialPort] = {}
        self._opening: SingleFlight[tuple[str, int]] = SingleFlight()

    async def join(
        self, target: ConsoleTarget, history: Callable[[], Awaitable[ConsoleScrollback]]
    ) -> SerialPort:
        """Return the port, connected; `history` is called after a new connection was made.

        Raises: ConsoleRefusedError when it cannot be connected.
        """
        place = (target.host, target.port)
        port = self._open.get(place)
        if port is not None and port.is_open:
            return port

        async def connect() -> SerialPort:
            return await self._connect(place, target, history)

        joined: SerialPort = await self._opening.run(place, connect)
        return joined

    async def _connect(
        self,
        place: tuple[str, int],
        target: ConsoleTarget,
        history: Callable[[], Awaitable[ConsoleScrollback]],
    ) -> SerialPort:
        stream = await self._dial(target)
        try:
            before = (await history()).text
        except ConsoleRefusedError:
            before = b""  # the port itself can be used
        port = SerialPort(self._reactor, stream, before, self._closed)
        self._open[place] = port
        port.start()
        if not port.is_open:  # with TLS 1.3 a client is refused after its own handshake
            raise ConsoleRefusedError(BrowserRefusal.SERIAL_UNREACHABLE, "closed at once by the machine")
        # a console that was closed meanwhile does not join it
        self._reactor.callLater(0, port.close_if_unused)
        return port

    async def _dial(self, target: ConsoleTarget) -> TargetStream:
        if target.transport_tls is None:
            raise ConsoleRefusedError(BrowserRefusal.SERIAL_UNTRUSTED, "serial port has no TLS")
        link = TargetLink(self._reactor, target)
        # QEMU serves one client: another one waits for its handshake
        busy = ConsoleRefusedError(
            BrowserRefusal.SERIAL_UNREACHABLE,
            f"no TLS handshake within {CONNECT_DEADLINE_S:g} s: another client might use the port",
        )
        deadline = ScaledTimer(self._reactor, CONNECT_DEADLINE_S, lambda: link.fail(busy))
        try:
            await link.connect()
            await link.start_tls(target.transport_tls)
        except ConsoleRefusedError as refused:
            link.close()
            refusal = _REFUSALS.get(refused.refusal, BrowserRefusal.SERIAL_UNREACHABLE)
            raise ConsoleRefusedError(refusal, str(refused)) from None
        except BaseException:
            link.close()
            raise
        finally:
            deadline.cancel()
        return link.stream

    def _closed(self, port: SerialPort) -> None:
        for place, each in list(self._open.items()):
            if each is port:
                del self._open[place]
