# SPDX-License-Identifier: Apache-2.0
"""Wrong clocks, another CA, revoked and expired certificates: a booted CPVM recovers or reports why not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.image, pytest.mark.netns, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The observations of `control_plane.py` by stage: three boots with a control channel."""
    script = Path(__file__).with_name("control_plane.py")
    work = tmp_path_factory.mktemp("control")
    done = subprocess.run(
        # a separate loopback interface, where port 8250 is free
        ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "x", sys.executable, script, work],
        capture_output=True, text=True, timeout=3540, check=False,
    )  # fmt: skip
    sys.stderr.write(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr[-8000:]
    stages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {stage["stage"]: stage for stage in stages}


@pytest.mark.parametrize("stage", ["behind", "ahead"])
def test_an_rtc_wrong_by_a_day_does_not_prevent_up(observed: dict[str, Any], stage: str) -> None:
    """`ahead` is also the start after a reset from inside, which invalidates all earlier credentials."""
    assert abs(observed[stage]["skew_s"]) < 60
    assert observed[stage]["status"][0] == "Up"


def test_a_clock_moved_by_three_hours_is_an_alert_until_it_is_corrected(observed: dict[str, Any]) -> None:
    state, reason, hint = observed["moved"]["alert"]
    assert (state, reason) == ("Alert", "has a clock that is 3 h ahead")
    assert "systemvm system-vm reboot v-2-VM" in hint
    assert observed["moved"]["after"][0] == "Up"


def test_the_daemon_sets_a_wrong_clock_by_the_guest_agent(observed: dict[str, Any]) -> None:
    assert abs(observed["corrected"]["skew_s"]) < 60
    assert observed["corrected"]["status"][0] == "Up"


def test_an_agent_follows_a_replaced_control_ca(observed: dict[str, Any]) -> None:
    assert observed["rotated"]["changed"] is True
    assert observed["rotated"]["status"][0] == "Up"


def test_a_revoked_certificate_is_disconnected_at_once_and_refused(observed: dict[str, Any]) -> None:
    assert observed["revoked"]["disconnected_at_once"] is True
    state, reason, hint = observed["revoked"]["status"]
    assert state == "Alert"
    assert reason.startswith("was refused (revoked): its certificate ")
    assert "which issues new credentials" in hint


def test_a_reset_after_the_first_certificate_expired_reaches_up(observed: dict[str, Any]) -> None:
    assert list(observed).index("ahead") > list(observed).index("revoked")
    assert observed["ahead"]["status"][0] == "Up"


def test_a_certificate_that_expired_while_powered_off_is_replaced_at_the_next_boot(
    observed: dict[str, Any],
) -> None:
    assert observed["expired"]["status"][0] == "Up"
    assert observed["expired"]["replaced"] is True
