# SPDX-License-Identifier: Apache-2.0
"""An agent's metrics as Prometheus scrapes them."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import execute
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from systemvm.guest import metrics_port
from systemvm.service.exposition import expose
from systemvm.service.metrics import Histogram, Metric, MetricKind, counter, gauge
from systemvm.web.metrics_site import MetricsSite, listening_socket

TOP = Path(__file__).resolve().parents[3]


def own_metrics() -> Iterable[Metric]:
    latencies = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        latencies.observe(value)
    yield gauge("test_open", "Open now", 3)
    yield counter("test_bytes", "Bytes", 5_000_000_000)
    yield Metric("test_refusals", "Refused", MetricKind.COUNTER, {"used": 2, 'ex"pired\n': 1}, "reason")
    yield Metric("test_seconds", "Times", MetricKind.HISTOGRAM, {"": latencies})


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def answer(monkeypatch: pytest.MonkeyPatch, request: bytes, sources: Any = (own_metrics,)) -> tuple[str, str]:
    """Return head and body of the response to a request."""
    monkeypatch.setattr(metrics_port, "deferToThread", execute)
    channel = MetricsSite(Clock(), metrics_port.exposition_of(sources)).buildProtocol(None)
    transport = StringTransport()
    channel.makeConnection(transport)
    channel.dataReceived(request)
    head, _, body = transport.value().decode().partition("\r\n\r\n")
    return head, body


def test_values_are_those_that_the_program_counted() -> None:
    body, content_type = expose(list(own_metrics()), "")
    assert content_type.startswith("text/plain; version=")
    found = samples(body.decode())
    assert found["test_open", ()] == 3
    assert found["test_bytes_total", ()] == 5_000_000_000
    assert found["test_refusals_total", (("reason", "used"),)] == 2
    assert found["test_refusals_total", (("reason", 'ex"pired\n'),)] == 1
    buckets = [found["test_seconds_bucket", (("le", bound),)] for bound in ("0.1", "1.0", "+Inf")]
    assert buckets == [2, 3, 4]
    assert (found["test_seconds_count", ()], found["test_seconds_sum", ()]) == (4, pytest.approx(7.65))
    assert found["process_resident_memory_bytes", ()] > 1 << 20


def test_prometheus_gets_the_format_that_it_asks_for() -> None:
    body, content_type = expose(list(own_metrics()), "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_a_scrape_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    head, body = answer(monkeypatch, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 ")
    assert samples(body)["test_open", ()] == 3


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET / HTTP/1.1", "404"),
        (b"GET /metrics/.. HTTP/1.1", "404"),
        (b"DELETE /metrics HTTP/1.1", "405"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 5", "413"),
        (b"POST /metrics HTTP/1.1\r\nTransfer-Encoding: chunked", "413"),
    ],
)
def test_nothing_else_is_answered(monkeypatch: pytest.MonkeyPatch, request_line: bytes, status: str) -> None:
    head, _ = answer(monkeypatch, request_line + b"\r\nHost: a\r\n\r\n")
    assert head.split()[1] == status


def test_a_source_that_fails_is_an_error_of_the_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Iterable[Metric]:
        raise ZeroDivisionError

    head, body = answer(monkeypatch, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", [own_metrics, fail])
    assert head.split()[1] == "500"
    assert "test_open" not in body


def test_without_a_management_address_nothing_listens() -> None:
    assert metrics_port.listen(Clock(), {"eth0ip": "169.254.1.2"}, metrics_port.exposition_of([])) is None


def test_an_address_that_cannot_be_used_does_not_stop_the_agent() -> None:
    assert metrics_port.listen(Clock(), {"eth1ip": "203.0.113.77"}, metrics_port.exposition_of([])) is None


@pytest.mark.parametrize("role", ["ssvm", "cpvm"])
def test_only_the_management_network_reaches_the_port(role: str) -> None:
    rules = (TOP / "appliances" / role / "nftables.conf").read_text()
    lines = [line.strip() for line in rules.splitlines() if str(metrics_port.PORT) in line]
    assert [line.partition(" accept")[0] for line in lines] == [
        f'iifname "eth1" {family} saddr @management_cidr{suffix} tcp dport {metrics_port.PORT}'
        for family, suffix in (("ip", ""), ("ip6", "6"))
    ]
    ports = yaml.safe_load((TOP / "appliances" / role / "appliance.yaml").read_text())["ports"]
    assert [port["interface"] for port in ports if port["port"] == metrics_port.PORT] == ["eth1"]


def test_the_socket_belongs_to_its_device() -> None:
    made = listening_socket("127.0.0.1", 0, "lo")
    try:
        device = made.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
        assert device.rstrip(b"\0") == b"lo"
    finally:
        made.close()
