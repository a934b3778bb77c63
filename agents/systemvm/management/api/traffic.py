# SPDX-License-Identifier: Apache-2.0
"""What the API measures and limits of the calls that it answers."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from systemvm.management.api.meter import ApiMeter
from systemvm.management.api.throttle import ApiThrottle
from systemvm.management.state.database import Database
from systemvm.management.state.list_turns import ListReaders


@frozen
class ApiTraffic:
    throttle: ApiThrottle
    meter: ApiMeter
    lists: ListReaders

    @classmethod
    def of(cls, database: Database, seconds: Callable[[], float]) -> ApiTraffic:
        """Return new counts; `seconds` is a monotonic clock."""
        return cls(ApiThrottle(database, seconds), ApiMeter(seconds), database.lists)
