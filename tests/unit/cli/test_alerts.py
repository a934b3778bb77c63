# SPDX-License-Identifier: Apache-2.0
"""`systemvm alert`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import Result

from fake_daemon import FakeDaemon

ALERT = {"id": "a-1", "sent": "2026-11-29", "name": "ALERT.SERVICE.SSVM", "description": "s-1-VM is lost"}
FAILING = {
    "name": "webhook", "target": "hooks.example.test", "state": "failing", "waiting": 2, "failures": 1,
    "reason": "status 500", "hint": "look there",
}  # fmt: skip


@pytest.fixture
def daemon() -> FakeDaemon:
    return FakeDaemon(
        listAlerts={"alert": [ALERT]},
        archiveAlerts={"success": True},
        listAlertDeliveries={"alertdelivery": [FAILING]},
        generateAlert={"jobid": "j-1"},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": {"success": True}},
    )


def test_alerts_are_listed_and_archived(run: Callable[..., Result], daemon: FakeDaemon) -> None:
    assert "s-1-VM is lost" in run(daemon, "alert", "list").output
    assert run(daemon, "alert", "archive", "a-1", "a-2").output == "2 archived.\n"
    assert daemon.calls[-1] == ("archiveAlerts", {"ids": "a-1,a-2"})


def test_a_way_out_that_fails_is_shown_with_its_hint(run: Callable[..., Result], daemon: FakeDaemon) -> None:
    line = run(daemon, "alert", "deliveries").output.splitlines()[1]
    assert line.split(maxsplit=5) == [
        "webhook", "hooks.example.test", "failing", "2", "never", "status 500: look there",
    ]  # fmt: skip


def test_ways_out_are_tried_by_an_alert(run: Callable[..., Result], daemon: FakeDaemon) -> None:
    assert run(daemon, "alert", "try").exit_code == 0
    assert [parameters["type"] for name, parameters in daemon.calls if name == "generateAlert"] == ["19"]


def test_without_a_way_out_there_is_nothing_to_try(run: Callable[..., Result]) -> None:
    result = run(FakeDaemon(listAlertDeliveries={}), "alert", "try")
    assert (result.exit_code, "alert.webhook.url" in result.output) == (1, True)
