# SPDX-License-Identifier: Apache-2.0
"""`systemvm account usage`: what accounts use, as a table or as metrics of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import DaemonClient

#: Metric, help, whether it only grows, key of the answer, factor.
_METRICS = (
    ("systemvm_account_stored_bytes", "bytes on secondary storage", False, "storedbytes", 1),
    ("systemvm_account_served_bytes", "bytes that were downloaded by links", True, "servedbytes", 1),
    ("systemvm_account_console_seconds", "time that consoles were open", True, "consoleminutes", 60),
)


@click.command("usage")
@click.option("--prometheus", is_flag=True, help="Print metrics for the textfile collector of node_exporter.")
@click.pass_obj
def account_usage(daemon: DaemonClient, prometheus: bool) -> None:
    """Show what accounts store, download and use of consoles.

    \b
    Examples:
      systemvm account usage
      systemvm account usage --prometheus > /var/lib/prometheus/node-exporter/systemvm.prom
    """
    rows = daemon.records("listAccountUsage", "accountusage", listall="true")
    if prometheus:
        click.echo(_metrics(rows), nl=False)
        return
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("NAME", "STORED", "SERVED", "CONSOLE MINUTES"),
        [
            (
                row["account"],
                output.format_size(row["storedbytes"]),
                output.format_size(row["servedbytes"]),
                row["consoleminutes"],
            )
            for row in rows
        ],
        "There is no account.",
    )


def _metrics(rows: list[dict[str, Any]]) -> str:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector

    class Usage(Collector):
        def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
            for name, text, is_counter, key, factor in _METRICS:
                kind = CounterMetricFamily if is_counter else GaugeMetricFamily
                family = kind(name, text, labels=["account", "domain"])
                for row in rows:
                    family.add_metric([row["account"], row["domain"]], row[key] * factor)
                yield family

    registry = CollectorRegistry()
    registry.register(Usage())
    return generate_latest(registry).decode()
