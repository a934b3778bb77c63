# SPDX-License-Identifier: Apache-2.0
"""When recurring snapshots are due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.management.snapshots.errors import SnapshotRequestError
from systemvm.management.snapshots.schedule import Interval, Schedule, example

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia")


def next_of(interval: Interval, text: str, after: str, zone: str = "Europe/Berlin") -> str:
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    found = Schedule.parse(interval, text).next_after(moment, ZoneInfo(zone))
    return found.strftime("%Y-%m-%d %H:%M")


def test_each_interval_has_its_next_time() -> None:
    assert next_of(Interval.HOURLY, "30", "2026-11-29 10:29:59") == "2026-11-29 10:30"
    assert next_of(Interval.HOURLY, "30", "2026-11-29 10:30") == "2026-11-29 11:30"
    assert next_of(Interval.HOURLY, "00", "2026-11-29 10:30", "Asia/Kathmandu") == "2026-11-29 11:15"
    assert next_of(Interval.DAILY, "30:02", "2026-11-29 10:00") == "2026-11-30 01:30"
    assert next_of(Interval.DAILY, "30:02", "2026-11-29 10:00", "UTC") == "2026-11-30 02:30"
    assert next_of(Interval.WEEKLY, "00:03:1", "2026-11-29 10:00") == "2026-12-06 02:00", "1 is Sunday"
    assert next_of(Interval.WEEKLY, "00:03:7", "2026-11-29 10:00") == "2026-12-05 02:00"
    assert next_of(Interval.MONTHLY, "00:00:28", "2026-11-29 10:00") == "2026-12-27 23:00"


def test_a_skipped_hour_is_used_after_it_and_a_repeated_one_once() -> None:
    # Berlin's clocks go from 02:00 to 03:00 on 29 March 2026, and from 03:00 to 02:00 on 25 October 2026
    assert next_of(Interval.DAILY, "30:02", "2026-03-28 12:00") == "2026-03-29 01:30"
    assert next_of(Interval.DAILY, "30:02", "2026-03-29 01:30") == "2026-03-30 00:30"
    assert next_of(Interval.DAILY, "30:02", "2026-10-24 12:00") == "2026-10-25 00:30"
    assert next_of(Interval.DAILY, "30:02", "2026-10-25 00:30") == "2026-10-26 01:30"


@pytest.mark.parametrize(
    ("interval", "text", "says"),
    [
        (Interval.HOURLY, "60", "minute must be 0 to 59"),
        (Interval.HOURLY, "30:02", "is not a schedule of HOURLY"),
        (Interval.DAILY, "02", "is not a schedule of DAILY"),
        (Interval.DAILY, "00:24", "hour must be 0 to 23"),
        (Interval.DAILY, "-1:2", "is not a schedule"),
        (Interval.DAILY, "１:2", "is not a schedule"),
        (Interval.DAILY, "1:" + "0" * 5000, "hour must be"),
        (Interval.WEEKLY, "00:00:0", "day of the week, from 1 for Sunday, must be 1 to 7"),
        (Interval.WEEKLY, "00:00:8", "must be 1 to 7"),
        (Interval.MONTHLY, "00:00:29", "day of the month must be 1 to 28"),
        (Interval.MONTHLY, "", "is not a schedule"),
    ],
)
def test_other_schedules_are_refused(interval: Interval, text: str, says: str) -> None:
    with pytest.raises(SnapshotRequestError, match=says):
        Schedule.parse(interval, text)


def test_each_example_is_a_schedule() -> None:
    for interval in Interval:
        Schedule.parse(interval, example(interval))


@given(
    st.sampled_from(Interval),
    st.integers(0, 59),
    st.integers(0, 23),
    st.integers(1, 7),
    st.sampled_from(ZONES),
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_the_next_time_is_later_and_within_the_interval(
    interval: Interval, minute: int, hour: int, day: int, zone: str, moment: datetime
) -> None:
    text = ":".join((f"{minute:02}", f"{hour:02}", str(day))[: interval.pattern.count(":") + 1])
    schedule = Schedule.parse(interval, text)
    found = schedule.next_after(moment, ZoneInfo(zone))
    days = {Interval.HOURLY: 0, Interval.DAILY: 1, Interval.WEEKLY: 7, Interval.MONTHLY: 31}[interval]
    # a change of the clocks makes one longer; Samoa had no 30 December 2011
    assert timedelta(0) < found - moment <= timedelta(days=days, hours=26 if days else 1.5)
    assert schedule.next_after(moment, ZoneInfo(zone)) == found
