# SPDX-License-Identifier: Apache-2.0
"""What the console asks of the management daemon. Nobody is let in without its word."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol, TypeVar

from twisted.logger import Logger

from systemvm.cpvm.refusal import Refusal, RefusedError
from systemvm.rpc.core.errors import FORBIDDEN, REFUSED, RpcError
from systemvm.rpc.core.peer import Peer
from systemvm.wire.console import (
    CONSOLE_AUTHORIZE,
    CONSOLE_TARGET,
    ConsoleAuthorize,
    ConsoleSession,
    ConsoleTarget,
    ConsoleTargetRequest,
)

DEADLINE_S = 10.0

_T = TypeVar("_T")

#: URL-safe alphabets; anything else is not worth a question.
_TOKEN = re.compile(r"[A-Za-z0-9._~=-]{1,512}")


class Authority(Protocol):
    """Both raise RefusedError, also when nobody can be asked."""

    async def authorize(self, request: ConsoleAuthorize) -> ConsoleSession: ...

    async def target(self, request: ConsoleTargetRequest) -> ConsoleTarget: ...


class DaemonAuthority:
    """Asks over the control channel, now: a lost connection is a no, and is not waited for."""

    log = Logger()

    def __init__(self, peer: Callable[[], Peer | None]) -> None:
        self._peer = peer

    async def authorize(self, request: ConsoleAuthorize) -> ConsoleSession:
        if not _TOKEN.fullmatch(request.token):
            raise RefusedError(Refusal.TOKEN_UNKNOWN, "no token in form")
        answer = await self._ask(CONSOLE_AUTHORIZE, request, ConsoleSession, request.request_id)
        return _expect(answer, ConsoleSession)

    async def target(self, request: ConsoleTargetRequest) -> ConsoleTarget:
        answer = await self._ask(CONSOLE_TARGET, request, ConsoleTarget, request.request_id)
        return _expect(answer, ConsoleTarget)

    async def _ask(self, method: str, params: object, result: type, request_id: str) -> object:
        peer = self._peer()
        if peer is None:
            raise RefusedError(Refusal.DAEMON_AWAY, "the control channel is down")
        try:
            return await peer.call(
                method, params, result=result, deadline_s=DEADLINE_S, request_id=request_id
            )
        except RpcError as error:
            if error.code == REFUSED or (error.code == FORBIDDEN and error.reason):
                raise RefusedError(_refusal(error), f"{method}: {error.reason}") from None
            self.log.warn("{method} failed: {error}", method=method, error=error.code)  # noqa: G010
            raise RefusedError(Refusal.DAEMON_AWAY, f"{method} failed with {error.code}") from None


def _refusal(error: RpcError) -> Refusal:
    """By `code`, which daemons of the first release do not send beside `reason`."""
    code = error.data.get("code") if isinstance(error.data, dict) else None
    return Refusal.from_daemon(error.reason if code is None else code)


def _expect(answer: object, kind: type[_T]) -> _T:
    if not isinstance(answer, kind):
        raise RefusedError(Refusal.DAEMON_AWAY, "the daemon's answer has another shape")
    return answer
