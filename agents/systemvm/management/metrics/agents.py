# SPDX-License-Identifier: Apache-2.0
"""Collects the metrics of system VMs over the control channel, so that one scrape gets all of a host.

What an agent sends is not trusted: only the metrics that agents have, each by its type, are taken, so that
none hides those of another one or changes the daemon's. Its length is bounded, and labels that name a system
VM are the daemon's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from attrs import frozen
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from systemvm.management.control.agent import Agent
from systemvm.management.control.directory import AgentDirectory
from systemvm.rpc.core.errors import RpcError
from systemvm.service.single_flight import SingleFlight
from systemvm.wire.agent import METRICS, AgentMetrics
from systemvm.wire.protocol import METRICS_SINCE

#: Prometheus gives a scrape 10 s. An agent that needs longer is in the next one.
WAIT_S = 7.0
MAX_TEXT_BYTES = 256 * 1024
#: The metrics of the agents, by type. One that a newer agent has besides is not shown.
KNOWN = {
    "systemvm_agent_info": "gauge",
    "systemvm_agent_connected": "gauge",
    "systemvm_agent_reconnects": "counter",
    "systemvm_agent_calls": "gauge",
    "systemvm_console_sessions": "gauge",
    "systemvm_console_connected_sessions": "gauge",
    "systemvm_console_sessions_max": "gauge",
    "systemvm_console_draining": "gauge",
    "systemvm_console_opened": "counter",
    "systemvm_console_sent_bytes": "counter",
    "systemvm_console_received_bytes": "counter",
    "systemvm_console_refusals": "counter",
    "systemvm_console_session_ends": "counter",
    "systemvm_console_handshake_seconds": "histogram",
    "systemvm_console_validation_seconds": "histogram",
    "systemvm_public_certificate_expiry_timestamp_seconds": "gauge",
    # of Prometheus's library
    "process_virtual_memory_bytes": "gauge",
    "process_resident_memory_bytes": "gauge",
    "process_start_time_seconds": "gauge",
    "process_cpu_seconds": "counter",
    "process_open_fds": "gauge",
    "process_max_fds": "gauge",
}
#: A name such as __name__ would make a sample one of another metric.
_LABEL = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")
_CALL_DEADLINE_S = 30.0


@frozen
class AgentScrape:
    """What one agent has answered; None when it did not, or nothing that can be used."""

    name: str
    role: str
    families: tuple[Metric, ...] | None


class AgentScraper:
    """Asks all agents at the same time; one that is still asked is not asked again."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, directory: AgentDirectory) -> None:
        self._clock = clock
        self._directory = directory
        self._running = SingleFlight[str]()

    async def scrape(self) -> list[AgentScrape]:
        """Return the metrics of each system VM of this host."""
        asking = [Deferred.fromCoroutine(self._ask(agent)) for agent in self._directory.agents()]
        found: list[AgentScrape] = await gatherResults(asking)
        return found

    async def _ask(self, agent: Agent) -> AgentScrape:
        families = None
        if agent.is_up and agent.speaks(METRICS_SINCE):
            waiting = Deferred.fromCoroutine(self._running.run(agent.name, lambda: self._read(agent)))
            try:
                families = await waiting.addTimeout(WAIT_S, self._clock)
            except (DeferredTimeout, CancelledError):
                pass  # it continues, and the next scrape joins it
            except (RpcError, ValueError) as error:
                self._log.debug("no metrics of {name}: {error}", name=agent.name, error=str(error))
        return AgentScrape(agent.name, agent.role.value, families)

    async def _read(self, agent: Agent) -> tuple[Metric, ...]:
        scale = self._directory.timeout_scale(agent.name)
        answer = await self._directory.call(
            agent.name, METRICS, result=AgentMetrics, deadline_s=_CALL_DEADLINE_S * scale
        )
        families: tuple[Metric, ...] = await deferToThread(
            parse, answer.text, {"system_vm": agent.name, "role": agent.role.value}
        )
        return families


def parse(text: str, labels: dict[str, str]) -> tuple[Metric, ...]:
    """Return the metrics of a text with these labels added.

    Raises: ValueError when it is too long, or is no text of Prometheus's format.
    """
    if len(text) > MAX_TEXT_BYTES:
        raise ValueError(f"metrics are too long: {len(text)} characters, the maximum is {MAX_TEXT_BYTES}")
    try:
        return tuple(_labelled(text_string_to_metric_families(text), labels))
    except Exception as error:  # the parser raises IndexError, too, for some texts
        raise ValueError(f"metrics cannot be parsed: {error}") from error


def _labelled(families: Iterable[Metric], labels: dict[str, str]) -> Iterator[Metric]:
    for family in families:
        if KNOWN.get(family.name) != family.type or not family.samples:
            continue
        family.samples = [_sample(sample, labels) for sample in family.samples]
        yield family


def _sample(sample: Sample, labels: dict[str, str]) -> Sample:
    for name in sample.labels:
        if not _LABEL.fullmatch(name):
            raise ValueError(f"label of {sample.name} is not permitted: {name!r}")
    return Sample(sample.name, {**sample.labels, **labels}, sample.value)
