# SPDX-License-Identifier: Apache-2.0
"""`snapshotpolicy` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key

#: CloudStack's numbers of intervals, which its answers have in the place of the words.
INTERVAL_NUMBERS = {"HOURLY": 0, "DAILY": 1, "WEEKLY": 2, "MONTHLY": 3}


@frozen(kw_only=True)
class SnapshotPolicyAnswer:
    """A policy that takes snapshots of a volume by a schedule."""

    id: str = required_key("the UUID")
    volumeid: str = required_key("UUID of the volume")
    intervaltype: int = required_key("0 hourly, 1 daily, 2 weekly, 3 monthly")
    schedule: str = required_key("when in the interval: MM, MM:HH, MM:HH:D or MM:HH:DD")
    timezone: str = required_key("the time zone of the schedule")
    maxsnaps: int = required_key("how many of its snapshots are kept")
    fordisplay: bool = required_key("always true")
    nextrun: datetime | None = optional_key("when it is due next; an addition to CloudStack's keys")
