# SPDX-License-Identifier: Apache-2.0
"""Shows the metrics of the daemon and of its agents at an address of the host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Any

from attrs import define, field
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from systemvm.host.bridges import HostNetwork
from systemvm.host.config_file import ConfigError
from systemvm.management.config import MetricsConfig
from systemvm.management.metrics.agents import AgentScraper
from systemvm.management.metrics.families import merged
from systemvm.management.metrics.sources import DaemonMetrics, of_agents
from systemvm.service.single_flight import SingleFlight
from systemvm.web.metrics_site import listen_at

_log = Logger()


@define
class MetricsService:
    """Collects everything once for all scrapes of the same time."""

    reactor: Any
    config: MetricsConfig
    networks: Sequence[HostNetwork]
    daemon: DaemonMetrics
    agents: AgentScraper
    _port: IListeningPort | None = None
    _running: SingleFlight[str] = field(factory=SingleFlight)

    def start(self) -> None:
        """Listen, if the configuration has an address.

        Raises: ConfigError when it cannot be used.
        """
        if self.config.endpoint is None:
            return
        address, port = self.config.endpoint
        try:
            self._port = listen_at(
                self.reactor, address, port, device_of(address, self.networks), self.expose
            )
        except OSError as error:
            raise ConfigError(
                f"metrics.listen: cannot listen at {self.config.listen}: {error.strerror}",
                "give an address of this host and a free port",
            ) from error
        self.daemon.lag.start()
        _log.info("metrics are at {address} port {port}", address=address, port=port)

    async def stop(self) -> None:
        self.daemon.lag.stop()
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
            self._port = None

    async def expose(self, accept: str) -> tuple[bytes, str]:
        """Return the text and its type, in the format that the Accept header prefers."""
        families = await self._running.run("scrape", self._collect)
        shown: tuple[bytes, str] = await deferToThread(_encoded, families, accept)
        return shown

    async def _collect(self) -> list[Metric]:
        own = await self.daemon.collect()
        return [*own, *of_agents(await self.agents.scrape())]


def device_of(address: str, networks: Sequence[HostNetwork]) -> str | None:
    """Return the device that alone must reach an address.

    Linux answers on any interface for any of its addresses: without a device, a VM on a public network could
    reach the address of the management network.
    """
    wanted = ip_address(address)
    if wanted.is_loopback:
        return "lo"
    for network in networks:
        if any(wanted == interface.ip for interface in network.addresses):
            return network.bridge
    return None


def _encoded(families: list[Metric], accept: str) -> tuple[bytes, str]:
    """Encode in a thread: the metrics of some system VMs and many accounts are a megabyte."""
    of_process = CollectorRegistry()
    ProcessCollector(registry=of_process)
    registry = CollectorRegistry()
    registry.register(_Given(merged([*of_process.collect(), *families])))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Given(Collector):
    """Metrics that were collected already."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)
