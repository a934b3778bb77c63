# SPDX-License-Identifier: Apache-2.0
"""Exchanges tokens for sessions so that an answer that was lost can be asked for again.

Browsers repeat a request whose connection broke before the answer came, when it was a kept one (Chromium,
HttpNetworkTransaction::ShouldResendRequest), and users repeat it after a network failure. The daemon would
refuse the token, which was used. So a page sends a random number of its own with the token: it gets the same
session again, as long as nobody has connected to it. Whoever has only the link gets nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

from attrs import field, frozen

from systemvm.cpvm.grants import Grants
from systemvm.cpvm.refusal import ConsoleRefusedError
from systemvm.service.connection_limits import source_of_address
from systemvm.service.single_flight import SingleFlight
from systemvm.wire.console import ConsoleAuthorize, ConsoleSession

#: How long a page can ask again.
KEPT_S = 60.0
MAX_KEPT = 1000


@frozen
class Exchanged:
    """A session, and the first secret of its browser."""

    session: ConsoleSession
    secret: str = field(repr=False)


class TokenExchange:
    """Exchanges each token once; answers the same page again for a while."""

    def __init__(
        self, spend: Callable[[ConsoleAuthorize], Awaitable[ConsoleSession]], grants: Grants
    ) -> None:
        self._spend = spend
        self._grants = grants
        self._running: SingleFlight[bytes] = SingleFlight()
        self._kept: dict[bytes, tuple[float, Exchanged]] = {}  # the oldest first

    async def exchange(self, request: ConsoleAuthorize, page_number: str) -> Exchanged:
        """Return the session of a token; `page_number` is empty for clients that do not ask again.

        Raises: ConsoleRefusedError.
        """
        if not page_number:
            return await self._exchange(request)
        key = _digest(request, page_number)
        kept = self._find(key, request.client_address)
        if kept is not None:
            return kept
        found: Exchanged = await self._running.run(key, lambda: self._exchange_and_keep(key, request))
        return found

    async def _exchange(self, request: ConsoleAuthorize) -> Exchanged:
        session = await self._spend(request)
        return Exchanged(session, self._grants.admit(session, request.client_address))

    async def _exchange_and_keep(self, key: bytes, request: ConsoleAuthorize) -> Exchanged:
        exchanged = await self._exchange(request)
        self._kept[key] = (self._grants.now_s(), exchanged)
        return exchanged

    def _find(self, key: bytes, client_address: str) -> Exchanged | None:
        now_s = self._grants.now_s()
        for oldest, (kept_at_s, _) in list(self._kept.items()):
            if now_s - kept_at_s <= KEPT_S and len(self._kept) <= MAX_KEPT:
                break
            del self._kept[oldest]
        _, exchanged = self._kept.get(key, (0.0, None))
        if exchanged is None:
            return None
        try:
            grant = self._grants.find(exchanged.session.session_id, exchanged.secret, client_address)
        except ConsoleRefusedError:  # the daemon says why
            return None
        return None if grant.is_connected else exchanged


def _digest(request: ConsoleAuthorize, page_number: str) -> bytes:
    source = source_of_address(request.client_address)
    parts = (request.token, request.extra, page_number, source)
    return hashlib.sha256("\0".join(parts).encode()).digest()
