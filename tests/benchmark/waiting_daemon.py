# SPDX-License-Identifier: Apache-2.0
"""The daemon with its control channel, and templates that wait in its database, in a process of its own.

usage: waiting_daemon.py ROOT TEMPLATES [IDENTITY]      JSON objects, one on each line, on stdout

With IDENTITY the zone has an SSVM, and the file gets the key and certificate of its agent. The templates are
registered when a line comes on standard input.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmark.control import write_identity
from benchmark.control_daemon import SimulatedHost, reactor, report
from systemvm.host.layout import Layout
from systemvm.management import config
from systemvm.management.control.agent import Agent
from systemvm.management.daemon import Daemon
from systemvm.management.state import instances, schema, zones
from systemvm.management.state.columns import new_uuid
from systemvm.management.state.status import InstanceState, InstanceType
from systemvm.management.templates.wait_reason import WaitReason, hint_for_zone
from systemvm.service.systemd_notifier import SystemdNotifier
from systemvm.wire.role import Role
from systemvm.wire.storage import ImageFormat

from twisted.internet import stdio  # isort: skip
from twisted.internet.defer import Deferred  # isort: skip
from twisted.logger import globalLogBeginner, textFileLogObserver  # isort: skip
from twisted.protocols.basic import LineOnlyReceiver  # isort: skip


def add_ssvm(connection: sa.Connection, host_id: int) -> str:
    """Add a running SSVM, and return its name."""
    kind, running = InstanceType.SECONDARY_STORAGE, InstanceState.RUNNING
    vm = instances.create(connection, kind, account_id=1, zone_id=1, host_id=host_id, state=running)
    return vm.instance_name


def add_waiting(connection: sa.Connection, count: int) -> None:
    """Add templates that were registered long ago: the daemon has noted that there is no SSVM for them."""
    [zone], [store] = zones.list_zones(connection), zones.list_stores(connection)
    reason = WaitReason.NO_SSVM
    why = {"error_code": reason.value, "error_hint": hint_for_zone(reason, zone.name, [])}
    templates, refs = [], []
    for number in range(1, count + 1):
        name = f"waiting-{number}"
        templates.append(
            {"id": number, "name": name, "unique_name": name, "zone_id": 1, "format": ImageFormat.RAW,
             "url": "http://images.example.test/a.raw", "account_id": 1 + number % 2}
        )  # fmt: skip
        refs.append({"template_id": number, "store_id": store.id, "job_id": new_uuid(), **why})
    connection.execute(schema.templates.insert(), templates)
    connection.execute(schema.template_store_refs.insert(), refs)


class Registration(LineOnlyReceiver):
    """Registers the templates at each line."""

    delimiter = b"\n"

    def __init__(self, daemon: Daemon, templates: int) -> None:
        self._daemon = daemon
        self._templates = templates

    def lineReceived(self, line: bytes) -> None:
        self._daemon.database.run_now(add_waiting, self._templates)
        report(registered=self._templates)


async def run(root: Path, templates: int, identity: Path | None) -> None:
    host = SimulatedHost()
    fakes: dict[str, Any] = {"hypervisor": host, "networks": host}
    daemon = Daemon(reactor, config.read(Layout(root)), SystemdNotifier(None), **fakes)

    if identity is not None:
        host.names = [daemon.database.run_now(add_ssvm, daemon.host.id)]
        write_identity(identity, daemon.authority.bootstrap(host.names[0], Role.SSVM))

    async def up(agent: Agent) -> None:
        report(up=agent.name)

    daemon.directory.on_up(up)
    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(daemon.stop()))
    await daemon.start()
    stdio.StandardIO(Registration(daemon, templates))
    report(names=host.names)


def main() -> None:
    root, templates = Path(sys.argv[1]), int(sys.argv[2])
    identity = Path(sys.argv[3]) if len(sys.argv) > 3 else None

    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)

    def failed(failure: Any) -> None:
        report(error=failure.getTraceback())
        reactor.stop()

    reactor.callLater(0, lambda: Deferred.fromCoroutine(run(root, templates, identity)).addErrback(failed))
    reactor.run()


if __name__ == "__main__":
    main()
