# SPDX-License-Identifier: Apache-2.0
"""The daemon's figures as metrics of Prometheus's library, and the union of those of several programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from systemvm.management.api.meter import ApiMeter
from systemvm.service.metrics import Histogram


def gauges(
    name: str, help: str, labels: Iterable[str], values: Mapping[tuple[str, ...], float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help, labels=list(labels))
    for label_values, value in sorted(values.items()):
        family.add_metric(label_values, value)
    return family


def counters(
    name: str, help: str, labels: Iterable[str], values: Mapping[tuple[str, ...], float]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help, labels=list(labels))
    for label_values, value in sorted(values.items()):
        family.add_metric(label_values, value)
    return family


def histograms(
    name: str, help: str, labels: Iterable[str], values: Mapping[tuple[str, ...], Histogram]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, help, labels=list(labels))
    for label_values, value in sorted(values.items()):
        family.add_metric(label_values, buckets=value.buckets, sum_value=value.total)
    return family


def api_calls(meter: ApiMeter) -> list[Metric]:
    return [
        counters(
            "systemvm_api_requests",
            "Calls of the API that were answered, by command and HTTP status",
            ("command", "status"),
            {(command, str(status)): float(number) for (command, status), number in meter.calls.items()},
        ),
        histograms(
            "systemvm_api_request_seconds",
            "Time until a call of the API was answered",
            ("command",),
            {(command,): times for command, times in meter.times.items()},
        ),
    ]


def merged(families: Iterable[Metric]) -> list[Metric]:
    """Return one family for each name: the format permits no second. One of another type is left out."""
    found: dict[str, Metric] = {}
    for family in families:
        first = found.get(family.name)
        if first is None:
            found[family.name] = first = Metric(family.name, family.documentation, family.type)
        if first.type == family.type:
            first.samples.extend(family.samples)
    return list(found.values())
