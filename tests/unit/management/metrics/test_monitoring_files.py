# SPDX-License-Identifier: Apache-2.0
"""docs/monitoring: each alert rule has its tests, and rules and dashboard read metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

TOP = Path(__file__).resolve().parents[4]
MONITORING = TOP / "docs" / "monitoring"
_NAME = re.compile(r"\b(?:systemvm|process)_[a-z0-9_]+")
#: What Prometheus's library adds to the names of counters and histograms.
_SUFFIXES = re.compile(r"_(?:total|bucket|count|sum)$")


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
    return found


def declared() -> set[str]:
    """Return the names of metrics in the programs."""
    sources = (TOP / "agents" / "systemvm").rglob("*.py")
    names = {name for path in sources for name in re.findall(r'"(systemvm_[a-z0-9_]+)"', path.read_text())}
    return names | {"process_resident_memory_bytes"}  # of Prometheus's library


def unknown(expression: str, names: set[str]) -> set[str]:
    used = {_SUFFIXES.sub("", name) for name in _NAME.findall(expression)}
    return used - {_SUFFIXES.sub("", name) for name in names}


def test_rules_read_metrics_that_there_are() -> None:
    names = declared()
    assert {rule["alert"]: unknown(rule["expr"], names) for rule in rules()} == {
        rule["alert"]: set() for rule in rules()
    }
    assert unknown("rate(systemvm_no_such_total[5m])", names) == {"systemvm_no_such"}


def test_panels_read_metrics_that_there_are() -> None:
    names = declared()
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            assert unknown(target["expr"], names) == set(), panel["title"]


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


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_confirms_the_rules() -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", "alerts.test.yaml"],
        cwd=MONITORING,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
