# SPDX-License-Identifier: Apache-2.0
"""An operation of primary storage that does not answer yet."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from small_cloud import SmallCloud


class HangingOperation:
    """The next call of the operation waits for `answer` or `fail`; those after it are answered at once."""

    def __init__(self, cloud: SmallCloud, patch: pytest.MonkeyPatch, operation: str) -> None:
        self.begun: Deferred[None] = Deferred()
        self._answered: Deferred[None] = Deferred()
        original = getattr(cloud.primary, operation)

        async def wait(*arguments: Any, **more: Any) -> Any:
            patch.setattr(cloud.primary, operation, original)
            self.begun.callback(None)
            await self._answered
            return await original(*arguments, **more)

        patch.setattr(cloud.primary, operation, wait)

    def answer(self) -> None:
        self._answered.callback(None)

    def fail(self, error: Exception) -> None:
        self._answered.errback(error)
