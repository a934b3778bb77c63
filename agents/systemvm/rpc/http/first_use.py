# SPDX-License-Identifier: Apache-2.0
"""A factory that is made at the first connection, for a socket that is rarely used.

twisted.web's server and what it imports take 2 MB and, in an emulated guest, seconds of its start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory


class FirstUseFactory(Factory):
    """Passes connections to the factory that `make` returns."""

    noisy = False

    def __init__(self, make: Callable[[], IProtocolFactory]) -> None:
        self._make = make
        self._made: IProtocolFactory | None = None

    def buildProtocol(self, addr: Any) -> Any:
        if self._made is None:
            self._made = self._make()
            self._made.doStart()
        return self._made.buildProtocol(addr)

    def stopFactory(self) -> None:
        made, self._made = self._made, None
        if made is not None:
            made.doStop()
