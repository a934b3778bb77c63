# SPDX-License-Identifier: Apache-2.0
"""systemd-analyze's rating of each service in an image is within the limits of sandbox.yaml."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from image.built_image import TOP, BuiltImage

pytestmark = pytest.mark.image

RULES: dict[str, dict[str, Any]] = yaml.safe_load((TOP / "appliances/base/sandbox.yaml").read_text())


def exposure(image: BuiltImage, unit: str) -> tuple[float, set[str]]:
    """Return the score, and the failed checks."""
    command = "systemd-analyze security --offline=true --no-pager %s %s"
    lines = json.loads(image.host.check_output(command, "--json=short", unit))
    points = {line["json_field"] for line in lines if float(line["exposure"] or 0) > 0}
    last = image.host.check_output(command, "--json=off", unit).splitlines()[-1]
    return float(last.rpartition(": ")[2].split()[0]), points


def rules_of(image: BuiltImage) -> dict[str, dict[str, Any]]:
    return {unit: rule for unit, rule in RULES.items() if image.role in rule.get("roles", [image.role])}


def test_every_service_is_within_its_limit(image: BuiltImage) -> None:
    budget = image.facts["budget"]["sandbox_score_max"]
    assert budget <= 1.1
    over = {}
    for unit, rule in rules_of(image).items():
        score, _ = exposure(image, unit)
        if score > rule.get("score_max", budget):
            over[unit] = score
    assert over == {}


def test_every_waiver_is_needed_and_has_a_reason(image: BuiltImage) -> None:
    for unit, rule in rules_of(image).items():
        if "score_max" in rule:
            assert len(rule["why"]) > 40, unit
            continue
        _, points = exposure(image, unit)
        assert points == set(rule["waivers"]), unit
        assert all(len(reason) > 10 for reason in rule["waivers"].values()), unit


def test_every_service_of_ours_has_a_limit(image: BuiltImage) -> None:
    import appliance

    ours = {unit for unit in appliance.load(image.role).units if unit.endswith(".service")}
    assert ours | {"qemu-guest-agent.service"} == set(rules_of(image))


def test_only_services_that_grant_root_access_have_no_sandbox() -> None:
    """Only these have a limit above systemd's "OK" (5)."""
    wide = {unit for unit, rule in RULES.items() if rule.get("score_max", 0) > 5}
    assert wide == {"systemvm-ssh@.service", "qemu-guest-agent.service", "systemvm-preinit.service"}
