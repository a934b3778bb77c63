# SPDX-License-Identifier: Apache-2.0
"""Each system VM gets a fifth of a core: twenty registrations become Ready, and no work accumulates."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from free_ports import plan_with_free_ports
from soak.cpu_limit import every_machine_limited
from soak.slow_machine import CORES, MAX_LOAD, REGISTRATIONS, SlowMachineRun
from systemvm.lab.cloud import Cloud

_log = logging.getLogger(__name__)
TOP = Path(__file__).resolve().parents[2]

# The run has no fixed duration: it fails when nothing changes for ten minutes.
pytestmark = [pytest.mark.image, pytest.mark.netns, pytest.mark.timeout(7200)]


def test_twenty_registrations_become_ready_on_a_fifth_of_a_core(tmp_path: Path) -> None:
    plan = plan_with_free_ports(tmp_path / "cloud", TOP / "build")
    plan.source_pages.mkdir(parents=True)
    with Cloud(plan) as lab, every_machine_limited(plan.layout.run / "qemu", CORES) as limiter:
        _log.warning("limited by %s", limiter.name)
        observed = SlowMachineRun(lab, "slow", _log.warning).run()
    _log.warning("%s", observed.to_row())
    assert observed.failed == {}
    assert len(observed.ready_s) == REGISTRATIONS
    assert observed.loads, "the guest's load was never measured"
    assert max(observed.loads) < MAX_LOAD
