# SPDX-License-Identifier: Apache-2.0
"""The smallest zone: without a public and without a storage network. tests/matrix has other shapes."""

from __future__ import annotations

from pathlib import Path

import pytest

from zone_by_api import ZoneShape, check_template_and_console, label, zone_of_shape

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

SMALLEST = ZoneShape(
    {"cloudbr2": label("10.12.0.1/24", "management")},
    {"MANAGEMENT": "cloudbr2", "POD": "10.12.0", "ROUTER": "10.12.0.254", "PUBLIC": "", "STORAGE": ""},
    router_on="cloudbr2",
)


def test_without_public_and_storage_networks_templates_and_consoles_use_management(tmp_path: Path) -> None:
    with zone_of_shape(SMALLEST, "zone-smallest") as cloud:
        machines = {vm["systemvmtype"]: vm for vm in cloud.api.listSystemVms()["systemvm"]}
        for vm in machines.values():
            assert vm["privateip"].startswith("10.12.0.")
            assert vm["gateway"] == "10.12.0.254"
        check_template_and_console(cloud, tmp_path)
