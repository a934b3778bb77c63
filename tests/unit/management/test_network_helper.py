# SPDX-License-Identifier: Apache-2.0
"""Answers of the network helper, also of one of an earlier release that still runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from systemvm.management import network_helper
from systemvm.management.network_helper import NetworkDriver


@pytest.mark.parametrize(
    ("answer", "unusable"),
    [
        ({"bridges": ["cloud0"]}, {}),
        ({"bridges": ["br1"], "unusable": {"br1": ["no uplink", "add it"]}}, {"br1": "no uplink"}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_helper_that_reports_no_unusable_bridges_has_none(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], unusable: dict[str, str]
) -> None:
    monkeypatch.setattr(network_helper, "call", lambda *given, **named: (answer, []))
    found = await NetworkDriver(Path("helper.sock")).ensure()
    assert {bridge: error.message for bridge, error in found.items()} == unusable
