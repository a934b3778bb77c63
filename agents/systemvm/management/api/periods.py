# SPDX-License-Identifier: Apache-2.0
"""`startdate` and `enddate`: a date means the whole day (ParamProcessWorker.java)."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta


def first_moment(when: date | datetime) -> datetime:
    """Return the start of a period, which is part of it, in UTC."""
    return when if isinstance(when, datetime) else datetime.combine(when, time(), UTC)


def end_of(when: date | datetime) -> datetime:
    """Return the end of a period, which is not part of it, in UTC: the end of the given day or second."""
    return first_moment(when) + (timedelta(seconds=1) if isinstance(when, datetime) else timedelta(days=1))
