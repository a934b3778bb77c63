# SPDX-License-Identifier: Apache-2.0
"""One kill of each kind during downloads; `make soak-control` does two hundred."""

from __future__ import annotations

import random

import pytest

from booted_cloud import BootedCloud
from soak.downloads import Downloads, machines_of
from soak.victims import SSVM, Kind, Victims, kills, one_of_each

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(1500)]


def test_five_kills_neither_lose_nor_repeat_a_download(cloud: BootedCloud) -> None:
    chance = random.Random(5)
    victims = Victims(cloud.lab, chance)
    victims.wait_all_up()
    downloads = Downloads(cloud.lab, "kills")
    downloads.start()
    try:
        done = kills(victims, one_of_each(chance), downloads.wait_for_progress, print)
        downloads.stop()
        downloads.settle(print)
        summary = downloads.summary({kill.kind.title for kill in done})
    finally:
        downloads.stop()
    assert {kill.kind for kill in done} == set(Kind)
    assert summary["ready"] >= 1
    assert len(machines_of(cloud.lab)) == len(set(machines_of(cloud.lab)))
    victims.wait_all_up()
    assert victims.up(SSVM)["agentstate"] == "Up"
    downloads.delete_all()
