# SPDX-License-Identifier: Apache-2.0
"""`startdate` and `enddate`: a day is meant from its first to its last moment (ParamProcessWorker.java)."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta


def first_moment(when: date | datetime) -> datetime:
    """What is not before it is in the period, UTC."""
    return when if isinstance(when, datetime) else datetime.combine(when, time(), UTC)


def end_of(when: date | datetime) -> datetime:
    """What is before it is in the period, UTC: the day, or the second, is part of it."""
    return first_moment(when) + (timedelta(seconds=1) if isinstance(when, datetime) else timedelta(days=1))
