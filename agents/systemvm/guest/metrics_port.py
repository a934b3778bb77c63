# SPDX-License-Identifier: Apache-2.0
"""Shows an agent's metrics to Prometheus: `GET /metrics` at the address of the management network.

The socket accepts nothing from another interface, and the firewall only the management network. Prometheus's
library is imported by the first scrape, in a thread: it costs an emulated guest a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from systemvm.guest.context import MetricSource
from systemvm.web.metrics_site import Expose, listen_at
from systemvm.web.plain_port import PlainPort

PORT = 9180
DEVICE = "eth1"  # of the management network, when the boot arguments name no other

_log = Logger()


def listen(reactor: Any, boot: Mapping[str, str], expose: Expose) -> PlainPort | None:
    """Listen at the management address; None when the VM has none, or the port is taken."""
    device = boot.get("private.network.device") or DEVICE
    address = boot.get(f"{device}ip") or boot.get(f"{device}ip6")
    if not address:
        return None
    try:
        return listen_at(reactor, address, PORT, device, expose)
    except (OSError, ValueError) as error:
        _log.warn("metrics are not shown at {address}: {error}", address=address, error=str(error))
        return None


def exposition_of(sources: Iterable[MetricSource]) -> Expose:
    """Return what shows the metrics of all sources, in the format that a client accepts."""

    async def show(accept: str) -> tuple[bytes, str]:
        expose = await deferToThread(_load)
        shown: tuple[bytes, str] = expose([metric for source in sources for metric in source()], accept)
        return shown

    return show


def _load() -> Any:
    from systemvm.service.exposition import expose

    return expose
