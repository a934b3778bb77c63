# SPDX-License-Identifier: Apache-2.0
"""The daemon collects the metrics of its agents over the control channel, and trusts none of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from prometheus_client import CollectorRegistry, ProcessCollector
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

import systemvm
from small_cloud.agents import FakePeer
from systemvm.cpvm.metrics import ConsoleMetrics
from systemvm.cpvm.refusal import BrowserRefusal
from systemvm.management.control.agent import AgentStatus
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.metrics.agents import (
    KNOWN,
    MAX_TEXT_BYTES,
    WAIT_S,
    AgentScrape,
    AgentScraper,
    parse,
)
from systemvm.management.state.status import AgentState
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, RpcError
from systemvm.service.exposition import expose
from systemvm.service.metrics import counter, gauge
from systemvm.web.expiry_metric import expiry_metrics
from systemvm.wire import protocol
from systemvm.wire.agent import METRICS, AgentMetrics, Hello
from systemvm.wire.role import Role

HELLO = Hello(protocol.CURRENT, "n", "r", "0", "0", "0", "boot", 0.0)
LABELS = {"system_vm": "v-2-VM", "role": "cpvm"}


def text(sessions: float = 3) -> str:
    metrics = [
        gauge("systemvm_console_sessions", "Open", sessions),
        counter("systemvm_console_opened", "X", 7),
    ]
    body, _ = expose(metrics, "")
    return body.decode()


class Host:
    """A directory with one agent, which answers what `answer` is."""

    def __init__(self, hello: Hello = HELLO) -> None:
        self.clock, self.peer = Clock(), FakePeer()
        self.directory = AgentDirectory(lambda name: True, lambda: 1.0)
        self.agent = self.directory.expect("v-2-VM", Role.CPVM)
        peer: Any = self.peer
        self.directory.connected(self.agent, peer, hello)
        self.directory.set_status(self.agent, AgentStatus(AgentState.UP))
        self.peer.answers[METRICS] = lambda _: AgentMetrics(text())
        self.scraper = AgentScraper(self.clock, self.directory)

    async def scrape(self) -> AgentScrape:
        [found] = await self.scraper.scrape()
        return found


def samples(scrape: AgentScrape) -> dict[str, tuple[dict[str, str], float]]:
    found = [sample for family in scrape.families or () for sample in family.samples]
    return {sample.name: (sample.labels, sample.value) for sample in found}


@pytest_twisted.ensureDeferred
async def test_metrics_of_an_agent_are_labelled_with_its_system_vm() -> None:
    found = samples(await Host().scrape())
    assert found["systemvm_console_sessions"] == (LABELS, 3)
    assert found["systemvm_console_opened_total"] == (LABELS, 7)
    assert found["process_resident_memory_bytes"][0] == LABELS


@pytest.mark.parametrize(
    "answer",
    [
        RpcError(METHOD_NOT_FOUND, "no such method"),
        AgentMetrics("{"),
        AgentMetrics('{"systemvm_y",\t=#b"} '),
        AgentMetrics('{"a", =1} 1'),
        AgentMetrics('# TYPE process_open_fds gauge\nprocess_open_fds{"a\\"b"="c"} 1'),
        AgentMetrics("#" * (MAX_TEXT_BYTES + 1)),
    ],
    ids=[
        "an older agent",
        "no text of Prometheus",
        "the parser's IndexError",
        "another one",
        "no label",
        "too long",
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_agent_that_answers_nothing_useful_is_left_out(answer: Any) -> None:
    host = Host()
    host.peer.answers[METRICS] = lambda _: answer
    assert await host.scrape() == AgentScrape("v-2-VM", "cpvm", None)


@pytest_twisted.ensureDeferred
async def test_an_agent_that_is_not_up_or_of_an_older_protocol_is_not_asked() -> None:
    older = Host(evolve(HELLO, protocol_version=2))
    assert (await older.scrape()).families is None
    away = Host()
    away.directory.set_status(away.agent, AgentStatus(AgentState.ALERT, "lost its connection"))
    assert (await away.scrape()).families is None
    assert (older.peer.calls, away.peer.calls) == ([], [])


@pytest_twisted.ensureDeferred
async def test_a_scrape_does_not_wait_for_an_agent_that_hangs_and_the_next_one_joins() -> None:
    host, late = Host(), Deferred[AgentMetrics]()
    host.peer.answers[METRICS] = lambda _: late
    first = Deferred.fromCoroutine(host.scrape())
    host.clock.advance(WAIT_S)
    assert (await first).families is None
    second = Deferred.fromCoroutine(host.scrape())
    late.callback(AgentMetrics(text(sessions=5)))
    assert samples(await second)["systemvm_console_sessions"] == (LABELS, 5)
    assert len(host.peer.params_of(METRICS)) == 1


REFUSALS = "# TYPE systemvm_console_refusals_total counter\nsystemvm_console_refusals_total"


def test_labels_that_name_a_system_vm_are_the_daemons() -> None:
    [family] = parse(f'{REFUSALS}{{system_vm="s-1-VM",role="ssvm",reason="a"}} 1\n', LABELS)
    assert family.samples[0].labels == {**LABELS, "reason": "a"}


@pytest.mark.parametrize(
    "sent",
    [
        "node_load1 9\nup 0\n",
        '# TYPE systemvm_alerts gauge\nsystemvm_alerts{type="ALERT.COMPUTE.HOST"} 99\n',
        "# TYPE systemvm_agent_scraped gauge\nsystemvm_agent_scraped 1\n",
        "# TYPE systemvm_console_sessions counter\nsystemvm_console_sessions 1\n",
        "# TYPE systemvm_console_sessions gauge\n",
        "systemvm_console_sessions 1\n",
    ],
    ids=["another program", "the daemon", "the daemon of agents", "another type", "no sample", "no type"],
)
def test_what_no_agent_has_is_left_out(sent: str) -> None:
    shown = "# TYPE process_open_fds gauge\nprocess_open_fds 1\n"
    assert [family.name for family in parse(f"{sent}{shown}", LABELS)] == ["process_open_fds"]


def test_all_that_agents_have_is_known() -> None:
    package = Path(systemvm.__file__).parent
    sources = [path for part in ("guest", "cpvm", "ssvm", "web") for path in (package / part).rglob("*.py")]
    own = {name for path in sources for name in re.findall(r'"(systemvm_[a-z_]+)"', path.read_text())}
    of_process = {family.name for family in ProcessCollector(registry=CollectorRegistry()).collect()}
    assert own | of_process == KNOWN.keys()


def test_metrics_of_a_console_proxy_are_taken() -> None:
    metrics = ConsoleMetrics()
    metrics.refuse(BrowserRefusal.NO_TOKEN)
    metrics.end(BrowserRefusal.NO_TOKEN)
    shown = [*metrics.metrics(sessions=0, connected=0, places=1, is_draining=False), *expiry_metrics(1.0)]
    body, _ = expose(shown, "")
    assert {each.name for each in shown} <= {family.name for family in parse(body.decode(), LABELS)}
