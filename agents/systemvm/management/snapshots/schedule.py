# SPDX-License-Identifier: Apache-2.0
"""When recurring snapshots are due: CloudStack's intervals and schedules, in a time zone."""

from __future__ import annotations

import enum
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from attrs import frozen

from systemvm.management.snapshots.errors import SnapshotRequestError

_MINUTE = timedelta(minutes=1)
#: A day that a schedule names comes within two months at the latest.
_SEARCHED_DAYS = 63


class Interval(enum.Enum):
    """How often a policy takes a snapshot."""

    HOURLY = "HOURLY"
    DAILY = "DAILY"
    WEEKLY = "WEEKLY"
    MONTHLY = "MONTHLY"

    @property
    def pattern(self) -> str:
        return _PATTERNS[self]


_PATTERNS = {
    Interval.HOURLY: "MM",
    Interval.DAILY: "MM:HH",
    Interval.WEEKLY: "MM:HH:D",
    Interval.MONTHLY: "MM:HH:DD",
}
_LIMITS = {
    "MM": ("minute", 0, 59),
    "HH": ("hour", 0, 23),
    "D": ("day of the week, from 1 for Sunday,", 1, 7),
    "DD": ("day of the month", 1, 28),
}


@frozen
class Schedule:
    """A point in every interval."""

    interval: Interval
    minute: int
    hour: int = 0
    day: int = 0  # of the week, 1 for Sunday, or of the month

    @classmethod
    def parse(cls, interval: Interval, text: str) -> Schedule:
        """Read CloudStack's form, for example 30:02 for every day at 02:30.

        Raises: SnapshotRequestError when it has another form.
        """
        names, parts = interval.pattern.split(":"), text.split(":")
        if len(parts) != len(names) or not all(part.isascii() and part.isdigit() for part in parts):
            raise SnapshotRequestError(
                f"schedule: {text[:40]!r} is not a schedule of {interval.value}",
                f"send {interval.pattern}, for example {example(interval)}",
                parameter="schedule",
            )
        values = []
        for name, part in zip(names, parts, strict=True):
            what, least, most = _LIMITS[name]
            if len(part) > 2 or not least <= int(part) <= most:
                raise SnapshotRequestError(
                    f"schedule: {what} must be {least} to {most}: {part[:40]}", parameter="schedule"
                )
            values.append(int(part))
        return cls(interval, *values)

    def next_after(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """Return the first time after `moment` in UTC.

        An hour that a change of the clocks skips is used after it, one that it repeats only once.
        """
        if self.interval is Interval.HOURLY:
            return self._next_minute(moment, zone)
        today = moment.astimezone(zone).date()
        for days in range(_SEARCHED_DAYS):
            date = today + timedelta(days=days)
            if self.interval is Interval.WEEKLY and date.isoweekday() % 7 + 1 != self.day:
                continue
            if self.interval is Interval.MONTHLY and date.day != self.day:
                continue
            wanted = datetime(date.year, date.month, date.day, self.hour, self.minute, tzinfo=zone)
            if (found := wanted.astimezone(UTC)) > moment:
                return found
        raise AssertionError(f"{self} has no next time")

    def _next_minute(self, moment: datetime, zone: ZoneInfo) -> datetime:
        found = moment.astimezone(UTC).replace(second=0, microsecond=0) + _MINUTE
        # again after a change of the clocks by a part of an hour
        while wait := (self.minute - found.astimezone(zone).minute) % 60:
            found += wait * _MINUTE
        return found


def example(interval: Interval) -> str:
    """Return a schedule of an interval.

    >>> example(Interval.WEEKLY)
    '30:02:1'
    """
    return ":".join(("30", "02", "1")[: len(interval.pattern.split(":"))])
