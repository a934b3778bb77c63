# SPDX-License-Identifier: Apache-2.0
"""Alerts: which events are some, by CloudStack's types, and that they are archived and deleted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted
import sqlalchemy as sa

from api_requests import NOWHERE, refusal
from small_cloud import SmallCloud
from systemvm.management.api.errors import ErrorCode
from systemvm.management.image_stores.capacity import record_usage
from systemvm.management.state import alerts, events
from systemvm.management.state.alerts import AlertFilter, AlertType
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.instances import Instance
from systemvm.wire.storage import StoreStats


def happen(cloud: SmallCloud, kind: str, level: str = "WARN", vm: Instance | None = None, **more: Any) -> str:
    about: dict[str, Any] = {} if vm is None else {"resource_type": "SystemVm", "resource_uuid": vm.uuid}
    event = cloud.database.run_now(events.record, kind, f"{kind} happened", level=level, **about, **more)
    return event.uuid


async def listed(cloud: SmallCloud, **parameters: Any) -> list[dict[str, Any]]:
    answer = await cloud.call("listAlerts", **parameters)
    assert answer == {} or answer["count"] >= len(answer["alert"])
    return list(answer.get("alert", []))


@pytest.mark.parametrize(
    ("kind", "level", "expected"),
    [
        ("ALERT.STORAGE.SECONDARY", "WARN", (6, "ALERT.STORAGE.SECONDARY")),
        ("HOST.ALERT", "WARN", (7, "ALERT.COMPUTE.HOST")),
        ("PROXY.STOP", "WARN", (10, "ALERT.SERVICE.CONSOLEPROXY")),
        ("SSVM.PATCH", "ERROR", (19, "ALERT.SERVICE.SSVM")),
        ("SSVM.START", "ERROR", (19, "ALERT.SERVICE.SSVM")),
        ("PROXY.START", "INFO", None),
        ("ALERT.UPLOAD.FAILED", "ERROR", (28, "ALERT.UPLOAD.FAILED")),
        ("TEMPLATE.DOWNLOAD.FAILED", "ERROR", (28, "ALERT.UPLOAD.FAILED")),
        ("ALERT.CA.CERT", "WARN", (31, "ALERT.CA.CERT")),
        ("SSVM.STOP", "INFO", None),  # an operator stopped it
        ("ALERT.STORAGE.SECONDARY", "INFO", None),  # no longer full
        ("TEMPLATE.CREATE", "ERROR", None),
    ],
)
@pytest_twisted.ensureDeferred
async def test_events_are_alerts_by_type_and_level(
    cloud: SmallCloud, kind: str, level: str, expected: tuple[int, str] | None
) -> None:
    happen(cloud, kind, level)
    found = [(alert["type"], alert["name"]) for alert in await listed(cloud)]
    assert found == ([] if expected is None else [expected])


@pytest_twisted.ensureDeferred
async def test_a_lost_agent_is_an_alert_of_its_role(cloud: SmallCloud) -> None:
    happen(cloud, "AGENT.ALERT", vm=cloud.ssvm)
    happen(cloud, "AGENT.ALERT", vm=cloud.cpvm)
    assert [alert["type"] for alert in await listed(cloud)] == [10, 19]
    assert [alert["type"] for alert in await listed(cloud, type=19)] == [19]
    assert [alert["type"] for alert in await listed(cloud, name="alert.service.consoleproxy")] == [10]
    assert (await cloud.call("listAlerts", page=2, pagesize=1))["alert"][0]["type"] == 19
    assert await listed(cloud, keyword="nothing of this") == []


@pytest_twisted.ensureDeferred
async def test_a_store_that_is_nearly_full_is_an_alert(cloud: SmallCloud) -> None:
    cloud.database.run_now(record_usage, cloud.store.id, StoreStats(100, 96), 0.9)
    [alert] = await listed(cloud)
    assert (alert["type"], "96%" in alert["description"]) == (6, True)


@pytest.mark.parametrize("command", ["archiveAlerts", "deleteAlerts"])
@pytest_twisted.ensureDeferred
async def test_an_alert_that_is_taken_away_is_still_an_event(cloud: SmallCloud, command: str) -> None:
    gone, kept = happen(cloud, "ALERT.CA.CERT"), happen(cloud, "HOST.ALERT")
    assert await cloud.call(command, ids=gone) == {"success": True}
    assert [alert["id"] for alert in await listed(cloud)] == [kept]
    assert (await cloud.call("listEvents", id=gone))["count"] == 1
    assert (await refusal(cloud, command, ids=f"{kept},{NOWHERE}")).code is ErrorCode.PARAMETER
    assert [alert["id"] for alert in await listed(cloud)] == [kept], "all that are named, or none"
    assert await cloud.call(command, type=31) == {"success": True}
    assert len(await listed(cloud, id=kept)) == 1


@pytest_twisted.ensureDeferred
async def test_alerts_are_taken_away_by_their_days(cloud: SmallCloud) -> None:
    old = happen(cloud, "HOST.ALERT", created=now() - timedelta(days=9))
    new = happen(cloud, "HOST.ALERT")
    day = f"{now() - timedelta(days=5):%Y-%m-%d}"
    assert await cloud.call("archiveAlerts", enddate=day, startdate="2020-01-01") == {"success": True}
    found = [alert["id"] for alert in await listed(cloud)]
    assert (new in found, old in found) == (True, False)


@pytest_twisted.ensureDeferred
async def test_alerts_are_not_taken_away_without_saying_which(cloud: SmallCloud) -> None:
    kept = happen(cloud, "HOST.ALERT")
    for given in ({}, {"startdate": "2020-01-01"}):
        assert (await refusal(cloud, "deleteAlerts", **given)).code is ErrorCode.PARAMETER
    assert [alert["id"] for alert in await listed(cloud)] == [kept]
    for command in ("listAlerts", "archiveAlerts", "deleteAlerts", "listAlertTypes"):
        assert (await refusal(cloud, command, cloud.user, type=7)).code is ErrorCode.UNSUPPORTED


def test_lists_of_alerts_read_no_other_events(cloud: SmallCloud) -> None:
    """SQLite's query plan names the index of what is read; there can be a million other events."""
    plans: list[str] = []

    def explain(connection: Connection) -> None:
        read: list[tuple[str, Any]] = []
        sa.event.listen(connection, "before_cursor_execute", lambda *given: read.append(given[2:4]))
        alerts.page(connection, AlertFilter(), slice(0, 20))
        for statement, parameters in list(read):
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(plan for row in rows if "events" in (plan := str(row[-1])))

    cloud.database.run_now(explain)
    newest = "SEARCH events"  # of the highest number alone, which is the end of the table
    plans.remove(newest)
    assert len(plans) == 2
    assert all("ix_events_type_created" in plan for plan in plans), plans


@pytest_twisted.ensureDeferred
async def test_types_of_alerts_are_listed(cloud: SmallCloud) -> None:
    found = (await cloud.call("listAlertTypes"))["alerttype"]
    assert {(each["alerttypeid"], each["name"]) for each in found} == {
        (kind.number, kind.title) for kind in AlertType
    }
    [ssvm] = (await cloud.call("listAlertTypes", keyword="ssvm"))["alerttype"]
    assert ssvm == {"alerttypeid": 19, "name": "ALERT.SERVICE.SSVM"}
