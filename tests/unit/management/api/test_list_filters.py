# SPDX-License-Identifier: Apache-2.0
"""Lists are filtered by date, and accept long lists of ids."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.management.state import events, schema, templates
from user_vms import deployment_parameters


@pytest_twisted.ensureDeferred
async def test_events_are_filtered_by_date(cloud: SmallCloud) -> None:
    def record(connection: Any, day: int, hour: int) -> None:
        event = events.record(connection, "TEST", f"{day} at {hour}")
        moment = datetime(2026, 3, day, hour, 30, tzinfo=UTC)
        events.rows.update_where(connection, schema.events.c.id == event.id, created=moment)

    for day, hour in ((1, 0), (2, 0), (2, 23), (3, 0)):
        cloud.database.run_now(record, day, hour)

    async def found(**dates: str) -> list[str]:
        answer = await cloud.call("listEvents", type="TEST", **dates)
        return [row["description"] for row in reversed(answer.get("event", []))]

    assert await found(startdate="2027-01-01") == []
    assert await found(startdate="2026-03-02") == ["2 at 0", "2 at 23", "3 at 0"]
    assert await found(enddate="2026-03-02") == ["1 at 0", "2 at 0", "2 at 23"]
    assert await found(startdate="2026-03-02", enddate="2026-03-02") == ["2 at 0", "2 at 23"]
    assert await found(startdate="2026-03-02 00:30:00", enddate="2026-03-02 00:30:00") == ["2 at 0"]
    assert await found(startdate="2026-03-02 00:30:01", enddate="2026-03-02 23:00:00") == []
    with pytest.raises(ApiError, match="startdate"):
        await found(startdate="yesterday")


@pytest_twisted.ensureDeferred
async def test_jobs_are_filtered_by_start_date(cloud: SmallCloud) -> None:
    await cloud.job("deployVirtualMachine", **await deployment_parameters(cloud))
    assert (await cloud.call("listAsyncJobs", startdate="2020-01-01"))["count"] == 1
    assert await cloud.call("listAsyncJobs", startdate="9998-01-01") == {}


@pytest_twisted.ensureDeferred
async def test_long_list_of_ids_stays_within_the_databases_limit(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "MAX_NAMED_IDS", 2)
    ready = [cloud.add_template(name=f"t{number}")[0].uuid for number in range(4)]
    rows = (await cloud.call("listTemplates", templatefilter="all"))["template"]
    assert [row["id"] for row in rows if row["isready"]] == ready
