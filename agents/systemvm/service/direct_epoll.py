# SPDX-License-Identifier: Apache-2.0
"""Twisted's epoll reactor without a logging context around every event.

The context only sets `log_system` in events of Twisted's old logging, which nothing here reads, and it costs
more than relaying a key. An exception is logged and closes its descriptor all the same.
"""

from __future__ import annotations

from select import EPOLLIN
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.logger import Logger

_log = Logger()


class DirectEpollReactor(EPollReactor):
    """Calls what is ready itself."""

    _selectables: dict[int, Any]

    def doPoll(self, timeout: float | None) -> None:
        try:
            ready = self._poller.poll(-1 if timeout is None else timeout, len(self._selectables))
        except InterruptedError:
            return
        for descriptor, event in ready:
            selectable = self._selectables.get(descriptor)
            if selectable is None:  # closed by what was called before
                continue
            if event != EPOLLIN:
                self._doReadOrWrite(selectable, descriptor, event)
                continue
            try:
                why = selectable.doRead()
            except BaseException as error:
                _log.failure("reading from {selectable} failed", selectable=selectable)
                why = error
            if why:
                self._disconnectSelectable(selectable, why, True)

    doIteration = doPoll


def install() -> None:
    """Install it as the process's reactor."""
    installReactor(DirectEpollReactor())
