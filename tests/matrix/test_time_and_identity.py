# SPDX-License-Identifier: Apache-2.0
"""Wrong clocks, another CA, revoked and expired certificates: a booted CPVM recovers or reports why not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.image, pytest.mark.netns, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The parts of `lone_control.py`: three boots with a control channel."""
    script = Path(__file__).with_name("lone_control.py")
    work = tmp_path_factory.mktemp("control")
    done = subprocess.run(
        # a loopback of its own: port 8250 is free there
        ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "x", sys.executable, script, work],
        capture_output=True, text=True, timeout=1140, check=False,
    )  # fmt: skip
    sys.stderr.write(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr[-8000:]
    chapters = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {chapter["chapter"]: chapter for chapter in chapters}


@pytest.mark.parametrize("which", ["behind", "ahead"])
def test_an_rtc_wrong_by_a_day_does_not_prevent_up(seen: dict[str, Any], which: str) -> None:
    """`ahead` is also the start after it reset itself, when all that it had before is worth nothing."""
    assert abs(seen[which]["skew_s"]) < 60
    assert seen[which]["says"][0] == "Up"


def test_a_clock_moved_by_three_hours_is_an_alert_until_it_is_corrected(seen: dict[str, Any]) -> None:
    state, reason, hint = seen["moved"]["alert"]
    assert (state, reason) == ("Alert", "has a clock that is 3 h ahead")
    assert "systemvm system-vm reboot v-2-VM" in hint
    assert seen["moved"]["after"][0] == "Up"


def test_the_daemon_sets_a_wrong_clock_by_the_guest_agent(seen: dict[str, Any]) -> None:
    assert abs(seen["corrected"]["skew_s"]) < 60
    assert seen["corrected"]["says"][0] == "Up"


def test_an_agent_follows_a_replaced_control_ca(seen: dict[str, Any]) -> None:
    assert seen["rotated"]["changed"] is True
    assert seen["rotated"]["says"][0] == "Up"


def test_a_revoked_certificate_is_disconnected_at_once_and_refused(seen: dict[str, Any]) -> None:
    assert seen["revoked"]["cut_at_once"] is True
    state, reason, hint = seen["revoked"]["says"]
    assert state == "Alert"
    assert reason.startswith("was refused (revoked): its certificate ")
    assert "which issues new credentials" in hint


def test_a_reset_after_the_first_certificate_expired_reaches_up(seen: dict[str, Any]) -> None:
    assert list(seen).index("ahead") > list(seen).index("revoked")
    assert seen["ahead"]["says"][0] == "Up"


def test_a_certificate_that_expired_while_powered_off_is_replaced_at_the_next_boot(
    seen: dict[str, Any],
) -> None:
    assert seen["expired"]["says"][0] == "Up"
    assert seen["expired"]["another"] is True
