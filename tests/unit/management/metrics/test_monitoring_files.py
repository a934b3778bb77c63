# SPDX-License-Identifier: Apache-2.0
"""docs/monitoring: each alert rule has its tests, and rules and dashboard read metrics that there are."""

from __future__ import annotations

import re

import pytest
import yaml

from promtool import MISSING, MONITORING, PROMTOOL, TOP, dashboard, expressions, promtool, rules, unknown


def declared() -> set[str]:
    """Return the names of metrics in the programs."""
    sources = (TOP / "agents" / "systemvm").rglob("*.py")
    names = {name for path in sources for name in re.findall(r'"(systemvm_[a-z0-9_]+)"', path.read_text())}
    return names | {"process_resident_memory_bytes"}  # of Prometheus's library


def test_alerts_and_panels_read_metrics_that_there_are() -> None:
    names = declared()
    unknowns = {name: unknown(expression, names) for name, expression in expressions().items()}
    assert {name for name, found in unknowns.items() if found} == set()
    assert unknown("rate(systemvm_no_such_total[5m])", names) == {"systemvm_no_such"}


def test_panels_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    numbers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(numbers) == len(set(numbers))


def test_every_alert_has_a_severity_a_summary_and_a_hint() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical"), rule["alert"]
        assert rule["annotations"].keys() == {"summary", "hint"}, rule["alert"]


def test_every_alert_is_tested_to_fire_and_not_to_fire() -> None:
    cases = yaml.safe_load((MONITORING / "alerts.test.yaml").read_text())["tests"]
    checks = [check for case in cases for check in case["alert_rule_test"]]
    names = {rule["alert"] for rule in rules()}
    assert {check["alertname"] for check in checks if check["exp_alerts"]} == names
    assert {check["alertname"] for check in checks if not check["exp_alerts"]} == names


@pytest.mark.skipif(PROMTOOL is None, reason=MISSING)
def test_promtool_confirms_the_rules() -> None:
    promtool("check", "rules", "alerts.yaml")
    promtool("test", "rules", "alerts.test.yaml")
