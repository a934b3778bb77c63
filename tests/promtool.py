# SPDX-License-Identifier: Apache-2.0
"""Prometheus's own checker of rules and metrics, and the files of docs/monitoring."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

TOP = Path(__file__).resolve().parents[1]
MONITORING = TOP / "docs" / "monitoring"
BUILT = TOP / "build" / "promtool" / "usr" / "bin" / "promtool"
PROMTOOL = str(BUILT) if BUILT.exists() else shutil.which("promtool")
MISSING = "needs promtool: `make build/promtool/stamp`"

_NAME = re.compile(r"\b(?:systemvm|process)_[a-z0-9_]+")
#: What Prometheus's library adds to the names of counters and histograms.
_SUFFIXES = re.compile(r"_(?:total|bucket|count|sum)$")


def promtool(*arguments: str, given: str | None = None) -> None:
    """Run a check of promtool, which must find nothing."""
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, *arguments], cwd=MONITORING, input=given, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
    return found


def expressions() -> dict[str, str]:
    """Return what alerts and panels read, by their names."""
    panels = dashboard()["panels"]
    found = {f"{panel['title']}, {n}": t["expr"] for panel in panels for n, t in enumerate(panel["targets"])}
    return found | {rule["alert"]: rule["expr"] for rule in rules()}


def unknown(expression: str, names: set[str]) -> set[str]:
    """Return the metrics that an expression reads and that are not among `names`."""
    used = {_SUFFIXES.sub("", name) for name in _NAME.findall(expression)}
    return used - {_SUFFIXES.sub("", name) for name in names}


def exposed(scrape: str) -> set[str]:
    """Return the names of the metrics of a scrape."""
    return set(re.findall(r"^# TYPE (\S+)", scrape, re.MULTILINE))
