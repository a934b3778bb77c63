# SPDX-License-Identifier: Apache-2.0
"""Repeats calls that were only late or refused as busy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.task import deferLater
from twisted.logger import Logger

from systemvm.rpc.core.errors import BUSY, DEADLINE, RpcError
from systemvm.service.backoff import Backoff
from systemvm.wire.slowness import Delay

T = TypeVar("T")
FIRST_S, LAST_S = 2.0, 30.0

_log = Logger()
_TRANSIENT = frozenset({Delay.BUSY, Delay.STORE_HANGS, Delay.STORE_UNREACHABLE})


def is_transient(error: RpcError) -> bool:
    """Whether the same call can succeed later: it timed out, or the other end was busy."""
    return error.code in (BUSY, DEADLINE) or Delay.of(error.reason) in _TRANSIENT


async def retry_transient_errors(
    reactor: Any,
    call: Callable[[], Awaitable[T]],
    *,
    what: str,
    is_wanted: Callable[[], bool],
    on_wait: Callable[[RpcError], None] = lambda error: None,
) -> T:
    """Repeat `call`, which must be idempotent, after transient errors while its result `is_wanted`.

    The waits grow and are jittered; `on_wait` is called with the error before each.

    Raises: the last error when the result is not wanted any more, and any error that is not transient.
    """
    backoff = Backoff(first_s=FIRST_S, last_s=LAST_S)
    while True:
        try:
            return await call()
        except RpcError as error:
            if not is_transient(error) or not is_wanted():
                raise
            wait_s = backoff.next_s()
            _log.info("{what}: retrying in {wait_s:.0f} s: {error}", what=what, wait_s=wait_s, error=error)
            on_wait(error)
            await deferLater(reactor, wait_s)
            if not is_wanted():
                raise
