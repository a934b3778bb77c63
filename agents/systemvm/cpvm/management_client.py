# SPDX-License-Identifier: Apache-2.0
"""The console's calls to the management daemon, which decides about every connection."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol, TypeVar

from twisted.logger import Logger

from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.rpc.core.errors import FORBIDDEN, REFUSED, RpcError
from systemvm.rpc.core.peer import Peer
from systemvm.wire.console import (
    CONSOLE_AUTHORIZE,
    CONSOLE_POWER,
    CONSOLE_SCROLLBACK,
    CONSOLE_TARGET,
    ConsoleAuthorize,
    ConsolePower,
    ConsoleScrollback,
    ConsoleSession,
    ConsoleTarget,
    ConsoleTargetRequest,
    MachinePower,
)

DEADLINE_S = 10.0

_T = TypeVar("_T")

#: The characters of URL-safe encodings; anything else is refused without a call.
_TOKEN = re.compile(r"[A-Za-z0-9._~=-]{1,512}")


class ConsoleAuthority(Protocol):
    """Authorizes tokens and finds targets.

    Raises: ConsoleRefusedError when the daemon refuses or cannot be reached.
    """

    async def authorize(self, request: ConsoleAuthorize) -> ConsoleSession: ...

    async def target(self, request: ConsoleTargetRequest) -> ConsoleTarget: ...

    async def power(self, request: ConsolePower) -> MachinePower: ...

    async def scrollback(self, request: ConsoleTargetRequest) -> ConsoleScrollback: ...


class ManagementClient:
    """Calls the daemon over the control channel; without a connection it refuses at once."""

    log = Logger()

    def __init__(self, peer: Callable[[], Peer | None]) -> None:
        self._peer = peer

    async def authorize(self, request: ConsoleAuthorize) -> ConsoleSession:
        if not _TOKEN.fullmatch(request.token):
            raise ConsoleRefusedError(BrowserRefusal.TOKEN_UNKNOWN, "malformed token")
        answer = await self._call(CONSOLE_AUTHORIZE, request, ConsoleSession, request.request_id)
        return _expect(answer, ConsoleSession)

    async def target(self, request: ConsoleTargetRequest) -> ConsoleTarget:
        answer = await self._call(CONSOLE_TARGET, request, ConsoleTarget, request.request_id)
        return _expect(answer, ConsoleTarget)

    async def power(self, request: ConsolePower) -> MachinePower:
        answer = await self._call(CONSOLE_POWER, request, MachinePower, request.request_id)
        return _expect(answer, MachinePower)

    async def scrollback(self, request: ConsoleTargetRequest) -> ConsoleScrollback:
        answer = await self._call(CONSOLE_SCROLLBACK, request, ConsoleScrollback, request.request_id)
        return _expect(answer, ConsoleScrollback)

    async def _call(self, method: str, params: object, result: type, request_id: str) -> object:
        peer = self._peer()
        if peer is None:
            raise ConsoleRefusedError(BrowserRefusal.DAEMON_AWAY, "the control channel is down")
        try:
            return await peer.call(
                method, params, result=result, deadline_s=DEADLINE_S, request_id=request_id
            )
        except RpcError as error:
            if error.code == REFUSED or (error.code == FORBIDDEN and error.reason):
                raise ConsoleRefusedError(_refusal(error), f"{method}: {error.reason}") from None
            self.log.warn("{method} failed: {error}", method=method, error=error.code)  # noqa: G010
            raise ConsoleRefusedError(
                BrowserRefusal.DAEMON_AWAY, f"{method} failed with {error.code}"
            ) from None


def _refusal(error: RpcError) -> BrowserRefusal:
    """Read `code`; daemons of the first release send only `reason`."""
    code = error.data.get("code") if isinstance(error.data, dict) else None
    return BrowserRefusal.from_daemon(error.reason if code is None else code)


def _expect(answer: object, kind: type[_T]) -> _T:
    if not isinstance(answer, kind):
        raise ConsoleRefusedError(BrowserRefusal.DAEMON_AWAY, "invalid answer from the daemon")
    return answer
