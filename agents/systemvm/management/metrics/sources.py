# SPDX-License-Identifier: Apache-2.0
"""What the daemon shows to Prometheus: its calls, jobs, objects, storage, accounts, database and reactor."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from attrs import frozen
from prometheus_client import Metric
from twisted.internet.threads import deferToThread

from systemvm.management.api.commands import zone_answers
from systemvm.management.api.meter import ApiMeter
from systemvm.management.api.owner_names import read_names
from systemvm.management.metrics.agents import AgentScrape
from systemvm.management.metrics.families import api_calls, counters, gauges, histograms
from systemvm.management.metrics.reactor_lag import ReactorLag
from systemvm.management.primary.pool_service import StoragePools
from systemvm.management.primary.pool_usage import Usages
from systemvm.management.state import figures, usage
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.figures import Counts

#: Accounts with metrics of their own, the oldest first: each has three series for ever.
MAX_ACCOUNTS = 500


@frozen
class AccountFigures:
    """The usage of accounts, each by account and domain, and how many accounts are left out."""

    stored_bytes: Counts
    served_bytes: Counts
    console_seconds: Counts
    omitted: int


def account_figures(connection: Connection) -> AccountFigures:
    found = usage.usage(connection, None, limit=MAX_ACCOUNTS)
    known = read_names(connection)
    names: dict[int, tuple[str, ...]] = {}
    for each in found:
        account = known.accounts[each.account_id]
        names[each.account_id] = (account.name, known.domains[account.domain_id].path)
    return AccountFigures(
        {names[each.account_id]: float(each.stored_bytes) for each in found},
        {names[each.account_id]: float(each.served_bytes) for each in found},
        {names[each.account_id]: float(each.console_seconds) for each in found},
        usage.count_accounts(connection) - len(found),
    )


@frozen
class DaemonMetrics:
    """The parts that have figures; `ended_jobs` counts by command and outcome."""

    database: Database
    database_file: Path
    pools: StoragePools
    meter: ApiMeter
    ended_jobs: Counter[tuple[str, str]]
    lag: ReactorLag

    async def collect(self) -> list[Metric]:
        """Return all metrics, with what the database has now."""
        found = [*api_calls(self.meter), *self._process()]
        counts = {
            name: await self.database.read_kept(query, topics)
            for name, (query, topics) in figures.QUERIES.items()
        }
        found += _objects(counts)
        found += await self._pools()
        found += await self._accounts()
        sizes = await deferToThread(_sizes, self.database_file)
        found.append(gauges("systemvm_database_bytes", "Size of the database's files", ("file",), sizes))
        return found

    def _process(self) -> list[Metric]:
        ended: Counts = {key: float(number) for key, number in self.ended_jobs.items()}
        return [
            counters(
                "systemvm_jobs_ended",
                "Jobs that ended since the daemon's start, by command and outcome",
                ("command", "outcome"),
                ended,
            ),
            histograms(
                "systemvm_reactor_lag_seconds",
                "How late a timer of the daemon runs",
                (),
                {(): self.lag.late},
            ),
        ]

    async def _pools(self) -> list[Metric]:
        usages = await self.pools.usages()
        sizes, up = await self.database.read(_pool_figures, self.pools.own_directory, usages)
        return [
            gauges(
                "systemvm_storage_pool_bytes",
                "Bytes of a storage pool: total, used, and allocated to volumes",
                ("zone", "pool", "kind"),
                sizes,
            ),
            gauges(
                "systemvm_storage_pool_up",
                "1 while this host can use a storage pool that is enabled",
                ("zone", "pool"),
                up,
            ),
        ]

    async def _accounts(self) -> list[Metric]:
        found = await self.database.read(account_figures)
        labels = ("account", "domain")
        return [
            gauges(
                "systemvm_account_stored_bytes",
                "Bytes on secondary storage: every copy on every store",
                labels,
                found.stored_bytes,
            ),
            counters(
                "systemvm_account_served_bytes",
                "Bytes that SSVMs have sent by links",
                labels,
                found.served_bytes,
            ),
            counters(
                "systemvm_account_console_seconds",
                "How long consoles were open",
                labels,
                found.console_seconds,
            ),
            gauges(
                "systemvm_accounts_omitted",
                f"Accounts beyond {MAX_ACCOUNTS}, which have no metrics",
                (),
                {(): float(found.omitted)},
            ),
        ]


def of_agents(scrapes: list[AgentScrape]) -> list[Metric]:
    """Return which agents were scraped, and what they have sent."""
    scraped: Counts = {(each.name, each.role): float(each.families is not None) for each in scrapes}
    return [
        gauges(
            "systemvm_agent_scraped",
            "1 when the metrics of a system VM are part of this scrape",
            ("system_vm", "role"),
            scraped,
        ),
        *(family for each in scrapes for family in each.families or ()),
    ]


def _objects(counts: dict[str, Counts]) -> list[Metric]:
    rows: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
        ("jobs", "systemvm_jobs", "Jobs on record", ("status",)),
        ("template_copies", "systemvm_template_copies", "Templates and ISOs on image stores", ("state",)),
        ("virtual_machines", "systemvm_virtual_machines", "Virtual machines of users", ("state",)),
        ("system_vms", "systemvm_system_vms", "System VMs", ("role", "state", "agent_state")),
        ("open_alerts", "systemvm_alerts", "Alerts, neither archived nor deleted", ("type",)),
        (
            "store_capacity",
            "systemvm_image_store_bytes",
            "Bytes of an image store: total and used",
            ("zone", "store", "kind"),
        ),
    )
    return [gauges(name, help, labels, counts[key]) for key, name, help, labels in rows]


def _pool_figures(connection: Connection, own: Path, usages: Usages) -> tuple[Counts, Counts]:
    sizes: Counts = {}
    up: Counts = {}
    for pool in zone_answers.pools(connection, own, usages):
        key = (pool.zonename, pool.name)
        figures_of: dict[str, Any] = {
            "total": pool.disksizetotal,
            "used": pool.disksizeused,
            "allocated": pool.disksizeallocated,
        }
        sizes |= {(*key, kind): float(value) for kind, value in figures_of.items() if value is not None}
        if pool.state == "Down" or pool.disksizetotal is not None:
            up[key] = float(pool.state != "Down")
    return sizes, up


def _sizes(path: Path) -> Counts:
    found: Counts = {}
    for name, file in (("main", path), ("wal", path.with_name(f"{path.name}-wal"))):
        try:
            found[name,] = float(file.stat().st_size)
        except FileNotFoundError:
            found[name,] = 0.0  # there is no WAL after a checkpoint by the last connection
    return found
