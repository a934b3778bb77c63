# SPDX-License-Identifier: Apache-2.0
"""`systemvm account usage`: what accounts use, as a table or as metrics, and what they had in a period."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime
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


_DAY = click.DateTime(("%Y-%m-%d",))
PAGE_SIZE = 500


@click.command("usage")
@click.option("--prometheus", is_flag=True, help="Print metrics for the textfile collector of node_exporter.")
@click.option("--since", type=_DAY, help="Show hours of VMs, volumes, images and networks from this day on.")
@click.option("--until", type=_DAY, help="The last day, with --since; today by default.")
@click.pass_obj
def account_usage(
    daemon: DaemonClient, prometheus: bool, since: datetime | None, until: datetime | None
) -> None:
    """Show what accounts store, download and use of consoles.

    With --since: for how many hours of a period they had VMs, volumes and so on.

    \b
    Examples:
      systemvm account usage
      systemvm account usage --prometheus > /var/lib/prometheus/node-exporter/systemvm.prom
      systemvm account usage --since 2026-11-01 --until 2026-11-30
    """
    if since is not None and not prometheus:
        _show_period(daemon, since.date(), (until or datetime.now(UTC)).date())
        return
    if since is not None or until is not None:
        raise click.UsageError("--until needs --since, and --prometheus has no period")
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


def _show_period(daemon: DaemonClient, since: date, until: date) -> None:
    """Show hours by account and type of usage."""
    rows = _records_of(daemon, since, until)
    if daemon.as_json:
        output.print_json(rows)
        return
    types = {each["id"]: each["name"] for each in daemon.records("listUsageTypes", "usagetype")}
    hours: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in rows:
        key = (row["account"], row["domainpath"], types[row["usagetype"]])
        hours[key].append(float(row["rawusage"]))
    output.print_table(
        ("ACCOUNT", "DOMAIN", "TYPE", "OBJECTS", "HOURS"),
        [(*key, len(each), f"{sum(each):.2f}") for key, each in sorted(hours.items())],
        "No account had anything then.",
    )


def _records_of(daemon: DaemonClient, since: date, until: date) -> list[dict[str, Any]]:
    """Return the records of a period, each once: one that is new meanwhile moves others to a later page."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for page in itertools.count(1):
        rows = daemon.records(
            "listUsageRecords", "usagerecord",
            startdate=str(since), enddate=str(until), page=page, pagesize=PAGE_SIZE,
        )  # fmt: skip
        found.update(((row["usagetype"], row["usageid"], row.get("zoneid")), row) for row in rows)
        if len(rows) < PAGE_SIZE:
            break
    return list(found.values())


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
