# SPDX-License-Identifier: Apache-2.0
"""Zones with other networks than the sample's, each booted: a template becomes Ready and a console opens.

tests/system/test_zone_networks.py has the smallest one, with neither a public nor a storage network.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from zone_by_api import ZoneShape, check_template_and_console, label, zone_of_shape

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

PUBLIC = label("203.0.113.1/24", "public")
SHAPES = {
    "without-public": ZoneShape(
        {"cloudbr1": label("10.11.0.1/24", "management"), "cloudbr2": label("10.12.0.1/24", "storage")},
        {"PUBLIC": "", "ROUTER": "10.11.0.254"},
        router_on="cloudbr1",
    ),
    "without-storage": ZoneShape(
        {"cloudbr0": PUBLIC, "cloudbr2": label("10.12.0.1/24", "management")},
        {"MANAGEMENT": "cloudbr2", "POD": "10.12.0", "STORAGE": ""},
    ),
    "one-bridge-for-two": ZoneShape(
        {"cloudbr0": PUBLIC, "cloudbr2": label("10.11.0.1/24 10.12.0.1/24", "management", "storage")},
        {"MANAGEMENT": "cloudbr2"},
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_template_is_ready_and_a_console_opens(name: str, tmp_path: Path) -> None:
    with zone_of_shape(SHAPES[name], f"zone-{name}") as cloud:
        check_template_and_console(cloud, tmp_path)
