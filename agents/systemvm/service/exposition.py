# SPDX-License-Identifier: Apache-2.0
"""Metrics in the formats of Prometheus, by its own library, with those of the process itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from systemvm.service.metrics import Histogram, Metric, MetricKind

_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
_FAMILIES: dict[MetricKind, type[_Family]] = {
    MetricKind.COUNTER: CounterMetricFamily,
    MetricKind.GAUGE: GaugeMetricFamily,
    MetricKind.HISTOGRAM: HistogramMetricFamily,
}


def expose(metrics: Iterable[Metric], accept: str) -> tuple[bytes, str]:
    """Return the text and its type, in the format that the Accept header prefers."""
    registry = CollectorRegistry()
    registry.register(_Given(metrics))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Given(Collector):
    """Metrics that were collected already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[_Family]:
        yield from map(_family, self._metrics)


def _family(metric: Metric) -> _Family:
    family = _FAMILIES[metric.kind](metric.name, metric.help, labels=[metric.label] if metric.label else [])
    for label, value in metric.values.items():
        labels = [label] if metric.label else []
        if isinstance(family, HistogramMetricFamily) and isinstance(value, Histogram):
            family.add_metric(labels, buckets=value.buckets, sum_value=value.total)
        elif not isinstance(family, HistogramMetricFamily) and not isinstance(value, Histogram):
            family.add_metric(labels, value)
    return family
