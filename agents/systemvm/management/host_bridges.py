# SPDX-License-Identifier: Apache-2.0
"""Makes this host's bridges, and those that cannot be made again each minute, until they can."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Protocol

from attrs import evolve
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.host.bridges import HostNetwork
from systemvm.management.network_helper import NetworkError
from systemvm.service.periodic import Periodic

_INTERVAL_S = 60.0


class BridgeMaker(Protocol):
    """Makes all bridges, and returns why some cannot be."""

    async def ensure(self) -> dict[str, NetworkError]: ...


class HostBridges:
    """Keeps in each network of `labels` why its bridge is unusable."""

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, maker: BridgeMaker, labels: MutableMapping[str, HostNetwork]
    ) -> None:
        self._maker = maker
        self._labels = labels
        self._loop = Periodic(clock, self._make_missing, _INTERVAL_S, what="make missing bridges")

    async def start(self) -> None:
        """Raises: NetworkError when not even the control network can be made."""
        await self._make()
        self._loop.start(now=False)

    def stop(self) -> None:
        self._loop.stop()

    async def _make_missing(self) -> None:
        if any(network.unusable for network in self._labels.values()):
            await self._make()

    async def _make(self) -> None:
        unusable = await self._maker.ensure()
        for label, network in self._labels.items():
            error, before = unusable.get(network.bridge), network.unusable
            if str(error) == str(before):
                continue
            self._labels[label] = evolve(network, unusable=error)
            if error is None:
                self._log.info("network {label} can be used now", label=label)
            else:
                self._log.warn("network {label} cannot be used: {error}", label=label, error=str(error))
