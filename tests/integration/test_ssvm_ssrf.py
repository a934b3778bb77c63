# SPDX-License-Identifier: Apache-2.0
"""No packet to a forbidden address, however a URL, redirect, mirror, registry or name spells it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]
TOP = Path(__file__).resolve().parents[2]
#: How a way ends; the others end with these, too, or with a document that is not one.
REFUSED = {"url_denied", "url_invalid"}
ALSO = {
    "mirror": "metalink_invalid",  # no mirror is left
    "mirror by name": "metalink_invalid",
    "registry": "url_invalid",
    "named mirror": "pinned",  # the first server is asked again
}


@pytest.fixture(scope="module")
def table() -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": f"{TOP / 'agents'}:{TOP / 'tests'}"}
    command = ["unshare", "--net", sys.executable, "-m", "integration.ssvm_lab.ssrf_table"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=TOP, check=False)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_trap_sees_a_packet_to_each_address(table: dict[str, Any]) -> None:
    """Else 0 packets would mean nothing; the kernel itself refuses a few of them."""
    unseen = {address for address, packets in table["control"].items() if not packets}
    assert unseen <= {"0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "fe80::1", "ff02::1"}
    assert len(table["control"]) - len(unseen) >= 20


def test_public_servers_are_reached(table: dict[str, Any]) -> None:
    assert table["good"] == ["found"] * len(table["good"])


def test_at_least_500_cases_send_no_packet_to_a_forbidden_address(table: dict[str, Any]) -> None:
    assert len(table["results"]) >= 500
    assert {way: packets for way, packets in table["packets"].items() if packets} == {}


def test_each_case_is_refused_by_its_url_or_its_address(table: dict[str, Any]) -> None:
    wrong = [
        (way, spelling, outcome)
        for way, spelling, outcome in table["results"]
        if way != "further range" and outcome not in {*REFUSED, ALSO.get(way.partition(",")[0])}
    ]
    assert wrong == []


def test_further_connections_stay_at_the_address_that_was_checked(table: dict[str, Any]) -> None:
    outcomes = [outcome for way, _, outcome in table["results"] if way == "further range"]
    assert outcomes
    assert set(outcomes) == {"pinned"}


def test_the_proxy_is_asked_for_no_forbidden_server(table: dict[str, Any]) -> None:
    assert table["tunnels"] == []
