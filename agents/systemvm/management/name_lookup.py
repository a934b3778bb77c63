# SPDX-License-Identifier: Apache-2.0
"""Looks up names within a bounded time; it blocks, so use a thread.

getaddrinfo(3) takes as long as the name servers and modules of this host take, and cannot be interrupted. A
lookup that has not ended is waited for again and never repeated meanwhile.
"""

from __future__ import annotations

import socket
from concurrent.futures import Future
from threading import Lock, Thread

#: How long one who needs an address waits for it; on a slow machine longer, but less than systemd's
#: TimeoutStopSec, because stopping waits for it.
LOOKUP_S, MOST_LOOKUP_S = 20.0, 45.0

Place = tuple[str, int]


class NameLookup:
    """Runs each lookup in a thread of its own, which does not keep the process from ending."""

    def __init__(self) -> None:
        self._running: dict[Place, Future[list[str]]] = {}
        self._lock = Lock()

    def addresses(self, host: str, port: int, timeout_s: float) -> list[str]:
        """Return the addresses of a name, in the order in which they are to be tried.

        Raises: TimeoutError when there is no answer in time, socket.gaierror when there is none at all.
        """
        place = (host, port)
        with self._lock:
            answer = self._running.get(place)
            if answer is None:
                answer = self._running[place] = Future()
                Thread(target=self._look_up, args=(place, answer), daemon=True).start()
        return answer.result(timeout_s)

    def _look_up(self, place: Place, answer: Future[list[str]]) -> None:
        try:
            found = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)
            addresses = [str(address[0]) for *_, address in found]
        except Exception as error:  # whatever it is, somebody waits for it
            self._forget(place)
            answer.set_exception(error)
        else:
            self._forget(place)
            answer.set_result(addresses)

    def _forget(self, place: Place) -> None:
        with self._lock:
            del self._running[place]
