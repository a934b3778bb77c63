# SPDX-License-Identifier: Apache-2.0
"""The random order and the evaluation of `make soak-control`."""

from __future__ import annotations

import random

from benchmark.soak_control import percentile, table
from soak.victims import Kill, Kind, one_of_each, random_order


def test_the_same_seed_makes_the_same_kills_of_every_kind() -> None:
    order = random_order(200, random.Random(1))
    assert order == random_order(200, random.Random(1))
    assert order != random_order(200, random.Random(2))
    assert set(order) == set(Kind)
    assert sorted(kind.title for kind in one_of_each(random.Random(1))) == sorted(k.title for k in Kind)


def test_recovery_is_evaluated_by_kind_and_in_total() -> None:
    kills = [Kill(Kind.AGENT, "a", 0, float(took)) for took in range(1, 21)]
    kills.append(Kill(Kind.VM, "v", 0, 60.0))
    assert table(kills) == [
        {"killed": "VM", "times": 1, "p50_s": 60.0, "p95_s": 60.0, "max_s": 60.0},
        {"killed": "agent", "times": 20, "p50_s": 10.5, "p95_s": 19.0, "max_s": 20.0},
        {"killed": "all", "times": 21, "p50_s": 11.0, "p95_s": 20.0, "max_s": 60.0},
    ]


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([3.0, 1.0, 2.0], 0.95) == 3.0
    assert percentile([3.0], 0.01) == 3.0
