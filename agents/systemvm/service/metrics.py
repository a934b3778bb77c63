# SPDX-License-Identifier: Apache-2.0
"""Figures that a program counts, as Prometheus knows them; without its library, which costs boot time.

`service.exposition` writes them for Prometheus.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate

from attrs import define, field, frozen

#: Upper bounds for steps that take from a millisecond on fast hardware to many seconds on emulated.
LATENCY_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class MetricKind(enum.Enum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@define
class Histogram:
    """How many values were at most each bound, and their sum."""

    bounds: tuple[float, ...] = LATENCY_BOUNDS_S
    total: float = 0.0
    _counts: list[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self._counts)

    @property
    def buckets(self) -> list[tuple[str, int]]:
        """Return each upper bound with the number of values that are not greater."""
        names = [*map(repr, self.bounds), "+Inf"]
        return list(zip(names, accumulate(self._counts), strict=True))


@frozen
class Metric:
    """One metric; its values have the value of `label`, or one value has the empty text and no label."""

    name: str  # without Prometheus's suffixes: _total, _bucket
    help: str
    kind: MetricKind
    values: Mapping[str, float | Histogram]
    label: str = ""


def counter(name: str, help: str, value: float) -> Metric:
    return Metric(name, help, MetricKind.COUNTER, {"": value})


def gauge(name: str, help: str, value: float) -> Metric:
    return Metric(name, help, MetricKind.GAUGE, {"": value})
