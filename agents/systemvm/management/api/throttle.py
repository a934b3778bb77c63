# SPDX-License-Identifier: Apache-2.0
"""Limits how many calls an account can send in an interval, as CloudStack's ApiRateLimitServiceImpl.

The interval begins with an account's first call. Calls by all of its users and keys count, also those that
fail; root administrators are not limited, so that no user keeps them from helping.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from attrs import define, frozen

from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.api.principal import Principal
from systemvm.management.configurations.throttling import ThrottlingLimits, throttling_limits
from systemvm.management.state.database import Database

#: CloudStack's api.throttling.cachesize. The account whose interval began first is forgotten.
MAX_TRACKED = 50_000


@define
class _Window:
    began_s: float
    calls: int = 0


@frozen
class IssuedCalls:
    """What an account has sent in its present interval."""

    issued: int
    allowed: int
    expires_s: float  # from now


class CallCounter:
    """Counts calls by account; sans-IO."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._windows: OrderedDict[int, _Window] = OrderedDict()  # the oldest interval first

    def admit(self, account_id: int, limits: ThrottlingLimits) -> None:
        """Count a call.

        Raises: ApiError 429 with the time to wait, when it is one too many.
        """
        window = self._current(account_id, limits)
        if window is None:
            window = _Window(self._seconds())
            self._windows.pop(account_id, None)
            self._windows[account_id] = window
            if len(self._windows) > MAX_TRACKED:
                self._windows.popitem(last=False)
        window.calls += 1
        if window.calls > limits.max_calls:
            wait_s = self._left_s(window, limits)
            raise ApiError(
                ErrorCode.RATE_LIMITED,
                "The given user has reached his/her account api limit, please retry after "
                f"{int(wait_s * 1000)} ms.",
                f"send at most {limits.max_calls} calls in {limits.interval_s} s",
                retry_after_s=wait_s,
            )

    def issued(self, account_id: int, limits: ThrottlingLimits) -> IssuedCalls:
        window = self._current(account_id, limits)
        if window is None:
            return IssuedCalls(0, limits.max_calls, 0.0)
        return IssuedCalls(window.calls, limits.max_calls, self._left_s(window, limits))

    def reset(self, account_id: int | None) -> None:
        """Forget the calls of an account; with None those of all."""
        if account_id is None:
            self._windows.clear()
        else:
            self._windows.pop(account_id, None)

    def _current(self, account_id: int, limits: ThrottlingLimits) -> _Window | None:
        window = self._windows.get(account_id)
        return window if window is not None and self._left_s(window, limits) > 0 else None

    def _left_s(self, window: _Window, limits: ThrottlingLimits) -> float:
        # by the interval of now: a shorter one holds at once
        return window.began_s + limits.interval_s - self._seconds()


class ApiThrottle:
    """Applies the settings of the moment to the calls of accounts."""

    def __init__(self, database: Database, seconds: Callable[[], float]) -> None:
        self._database = database
        self.calls = CallCounter(seconds)

    async def admit(self, principal: Principal) -> None:
        """Count a call of a user.

        Raises: ApiError 429 when the account has sent too many.
        """
        if principal.is_admin:
            return
        limits = await self.limits()
        if limits.enabled:
            self.calls.admit(principal.account.id, limits)

    async def limits(self) -> ThrottlingLimits:
        """Return what holds now."""
        return await self._database.read_kept(throttling_limits, ("configurations",))
