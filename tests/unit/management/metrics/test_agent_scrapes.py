# SPDX-License-Identifier: Apache-2.0
"""The daemon collects the metrics of its agents over the control channel, and trusts none of them."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from small_cloud_fakes import FakePeer
from systemvm.management.control.agent import AgentStatus
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.metrics.agents import MAX_TEXT_BYTES, WAIT_S, AgentScrape, AgentScraper, parse
from systemvm.management.state.status import AgentState
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, RpcError
from systemvm.service.exposition import expose
from systemvm.service.metrics import counter, gauge
from systemvm.wire import protocol
from systemvm.wire.agent import METRICS, AgentMetrics, Hello
from systemvm.wire.role import Role

HELLO = Hello(protocol.CURRENT, "n", "r", "0", "0", "0", "boot", 0.0)
LABELS = {"system_vm": "v-2-VM", "role": "cpvm"}


def text(sessions: float = 3) -> str:
    metrics = [gauge("systemvm_console_sessions", "Open", sessions), counter("systemvm_x", "X", 7)]
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
    assert found["systemvm_x_total"] == (LABELS, 7)
    assert found["process_resident_memory_bytes"][0] == LABELS


@pytest.mark.parametrize(
    "answer",
    [
        RpcError(METHOD_NOT_FOUND, "no such method"),
        AgentMetrics("{"),
        AgentMetrics("#" * (MAX_TEXT_BYTES + 1)),
    ],
    ids=["an older agent", "no text of Prometheus", "too long"],
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


def test_labels_that_name_a_system_vm_are_the_daemons() -> None:
    [family] = parse('systemvm_x{system_vm="s-1-VM",role="ssvm",reason="a"} 1\n', LABELS)
    assert family.samples[0].labels == {**LABELS, "reason": "a"}


def test_names_of_other_programs_are_left_out() -> None:
    assert [family.name for family in parse("node_load1 9\nsystemvm_y 1\nup 0\n", LABELS)] == ["systemvm_y"]
