# SPDX-License-Identifier: Apache-2.0
"""The daemon's own metrics: calls, jobs, objects, storage, accounts, database and reactor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import pytest_twisted
import sqlalchemy as sa
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from api_client import Browser
from small_cloud import SmallCloud
from systemvm.host.bridges import HostNetwork
from systemvm.host.config_file import ConfigError
from systemvm.management.config import MetricsConfig
from systemvm.management.metrics import sources
from systemvm.management.metrics.agents import AgentScrape, AgentScraper, parse
from systemvm.management.metrics.families import gauges, merged
from systemvm.management.metrics.reactor_lag import INTERVAL_S, ReactorLag
from systemvm.management.metrics.service import MetricsService, device_of
from systemvm.management.metrics.sources import DaemonMetrics, account_figures, of_agents
from systemvm.management.state import accounts, events
from systemvm.management.state.status import AccountType

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


def metrics_of(cloud: SmallCloud) -> DaemonMetrics:
    return DaemonMetrics(
        cloud.database,
        cloud.configuration.layout.root / "cloud.sqlite",
        cloud.storage_pools,
        cloud.traffic.meter,
        cloud.jobs.ended,
        ReactorLag(cloud.clock),
    )


def read(families: list[Metric]) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


async def collected(cloud: SmallCloud) -> Samples:
    return read(await metrics_of(cloud).collect())


def key(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return name, tuple(sorted(labels.items()))


@pytest_twisted.ensureDeferred
async def test_calls_are_counted_by_command_and_status(cloud: SmallCloud) -> None:
    browser = Browser(cloud)
    await browser.login()
    for name in ("listZones", "listZones", "noSuchCommand", "anotherName"):
        await browser.call(name)
    await browser.post(command="listZones")  # without its session key
    found = await collected(cloud)
    requests = "systemvm_api_requests_total"
    assert found[key(requests, command="listZones", status="200")] == 2
    assert found[key(requests, command="listZones", status="401")] == 1
    assert found[key(requests, command="unknown", status="432")] == 2
    assert found[key("systemvm_api_request_seconds_count", command="listZones")] == 3
    assert not any("noSuchCommand" in dict(labels).values() for _, labels in found)


@pytest_twisted.ensureDeferred
async def test_objects_are_counted_by_state(cloud: SmallCloud) -> None:
    before = await collected(cloud)
    assert before[key("systemvm_system_vms", role="cpvm", state="Running", agent_state="Up")] == 1
    assert before[key("systemvm_alerts", type="ALERT.COMPUTE.HOST")] == 0
    cloud.add_template()
    cloud.database.run_now(events.record, "HOST.ALERT", "host is away", level="ERROR")
    after = await collected(cloud)
    copies = key("systemvm_template_copies", state="DOWNLOADED")
    assert after[copies] == before.get(copies, 0) + 1
    assert after[key("systemvm_alerts", type="ALERT.COMPUTE.HOST")] == 1


@pytest_twisted.ensureDeferred
async def test_jobs_that_wait_and_have_ended_are_counted(cloud: SmallCloud) -> None:
    waiting = Deferred[dict[str, object]]()
    cloud.jobs.register("testJob", lambda job: waiting)
    job = await cloud.jobs.submit("testJob", {}, account_id=cloud.admin.account.id, domain_id=1)
    assert (await collected(cloud))[key("systemvm_jobs", status="pending")] == 1
    waiting.callback({})
    await cloud.jobs.wait(job.uuid)
    found = await collected(cloud)
    assert found[key("systemvm_jobs", status="pending")] == 0
    assert found[key("systemvm_jobs_ended_total", command="testJob", outcome="succeeded")] == 1


@pytest_twisted.ensureDeferred
async def test_storage_and_database_have_their_sizes(cloud: SmallCloud) -> None:
    found = await collected(cloud)
    pools = {name for name, labels in found if name == "systemvm_storage_pool_bytes"}
    assert pools
    assert all(value == 1 for (name, _), value in found.items() if name == "systemvm_storage_pool_up")
    assert set(sources._sizes(cloud.configuration.layout.root / "none")) == {("main",), ("wal",)}


@pytest_twisted.ensureDeferred
async def test_accounts_are_bounded_and_the_rest_is_counted(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len((await cloud.database.read(account_figures)).stored_bytes)
    for number in range(5):
        cloud.database.run_now(accounts.create_account, f"more{number}", AccountType.USER, 1)
    monkeypatch.setattr(sources, "MAX_ACCOUNTS", before + 2)
    found = await collected(cloud)
    shown = [labels for name, labels in found if name == "systemvm_account_stored_bytes"]
    assert len(shown) == before + 2
    assert dict(shown[0]).keys() == {"account", "domain"}
    assert found[key("systemvm_accounts_omitted")] == 3


def test_names_of_accounts_are_not_read_one_by_one(cloud: SmallCloud) -> None:
    def queries() -> int:
        statements: list[str] = []

        def executed(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
            statements.append(statement)

        sa.event.listen(cloud.database.engine, "before_cursor_execute", executed)
        cloud.database.run_now(account_figures)
        sa.event.remove(cloud.database.engine, "before_cursor_execute", executed)
        return len(statements)

    before = queries()
    for number in range(5):
        cloud.database.run_now(accounts.create_account, f"more{number}", AccountType.USER, 1)
    assert queries() == before


def test_a_late_timer_is_the_reactors_lag() -> None:
    clock = Clock()
    lag = ReactorLag(clock)
    lag.start()
    clock.advance(INTERVAL_S)
    clock.advance(INTERVAL_S + 0.3)
    assert (lag.late.count, lag.late.total) == (2, pytest.approx(0.3))
    lag.stop()
    assert clock.getDelayedCalls() == []


def test_one_family_has_the_samples_of_all_programs() -> None:
    name = "process_open_fds"
    one = gauges(name, "X", (), {(): 1.0})
    scraped = parse(f"# TYPE {name} gauge\n{name} 2\n", {"system_vm": "s-1-VM"})
    of_another_type = gauges(name, "X", (), {(): 9.0})
    of_another_type.type = "counter"
    [family] = merged([one, *scraped, of_another_type])
    assert [sample.value for sample in family.samples] == [1.0, 2.0]
    assert [sample.value for sample in one.samples] == [1.0], "what is merged is not changed"


def test_which_agents_were_scraped_is_shown() -> None:
    scrapes = [AgentScrape("s-1-VM", "ssvm", ()), AgentScrape("v-2-VM", "cpvm", None)]
    found = read(of_agents(scrapes))
    assert found[key("systemvm_agent_scraped", system_vm="s-1-VM", role="ssvm")] == 1
    assert found[key("systemvm_agent_scraped", system_vm="v-2-VM", role="cpvm")] == 0


NETWORKS = [
    HostNetwork.of("cloudbr1", ["management"], "10.11.0.1/24", "fd00:11::1/64"),
    HostNetwork.of("cloudbr0", ["public"], "203.0.113.1/24"),
]


@pytest.mark.parametrize(
    ("address", "device"),
    [
        ("10.11.0.1", "cloudbr1"),
        ("fd00:11::1", "cloudbr1"),
        ("127.0.0.1", "lo"),
        ("::1", "lo"),
        ("192.0.2.1", None),
    ],
)
def test_only_the_network_of_the_address_reaches_it(address: str, device: str | None) -> None:
    assert device_of(address, NETWORKS) == device


def service_of(cloud: SmallCloud, listen: str) -> MetricsService:
    agents = AgentScraper(cloud.clock, cloud.control)
    return MetricsService(cloud.clock, MetricsConfig(listen), [], metrics_of(cloud), agents)


@pytest_twisted.ensureDeferred
async def test_one_text_has_the_daemon_and_its_process(cloud: SmallCloud) -> None:
    service = service_of(cloud, "")
    body, content_type = await service.expose("")
    assert content_type.startswith("text/plain; version=")
    names = [family.name for family in text_string_to_metric_families(body.decode())]
    assert len(names) == len(set(names))
    shown = {"systemvm_jobs", "systemvm_database_bytes", "process_resident_memory_bytes"}
    assert shown <= set(names)
    body, content_type = await service.expose("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


@pytest_twisted.ensureDeferred
async def test_scrapes_at_the_same_time_collect_once(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = service_of(cloud, "")
    begun: list[Deferred[list[AgentScrape]]] = []

    def scrape() -> Deferred[list[AgentScrape]]:
        begun.append(Deferred())
        return begun[-1]

    monkeypatch.setattr(DaemonMetrics, "collect", lambda self: succeed([]))
    monkeypatch.setattr(AgentScraper, "scrape", lambda self: scrape())
    scrapes = [Deferred.fromCoroutine(service.expose("")) for _ in range(2)]
    begun[0].callback([])
    assert [b"systemvm_agent_scraped" in (await each)[0] for each in scrapes] == [True, True]
    assert len(begun) == 1


def test_nothing_listens_without_an_address(cloud: SmallCloud) -> None:
    service = service_of(cloud, "")
    service.start()
    assert cloud.clock.getDelayedCalls() == []


def test_an_address_that_cannot_be_used_stops_the_daemon(cloud: SmallCloud) -> None:
    with pytest.raises(ConfigError, match=r"metrics\.listen: cannot listen at 203\.0\.113\.77"):
        service_of(cloud, "203.0.113.77").start()
