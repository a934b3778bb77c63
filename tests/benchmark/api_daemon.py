# SPDX-License-Identifier: Apache-2.0
"""The API of a daemon with many objects, for `bench-api`. Site, signatures and database are the daemon's own.

System VMs and hypervisor are fakes: no call of the benchmark reaches them.

usage: api_daemon.py DIRECTORY TEMPLATES MACHINES EVENTS [--changing]

It prints one line of JSON when it listens. With --changing a download reports its progress every 50 ms.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

import sqlalchemy as sa  # noqa: E402

from systemvm.management import interpreter_pauses  # noqa: E402
from systemvm.management.state import accounts, events, schema  # noqa: E402
from systemvm.management.state.database import Database  # noqa: E402

ACCOUNTS = 100
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_BATCH = 10_000
REPORT_INTERVAL_S = 0.05
#: API key and secret key of a user whose client is greedy.
GREEDY_KEYS = ("a-greedy-key", "a-greedy-secret")
_PERCENT = itertools.count()


def insert(connection: sa.Connection, table: sa.Table, rows: Iterator[dict[str, Any]]) -> None:
    while batch := list(itertools.islice(rows, _BATCH)):
        connection.execute(table.insert(), batch)


def fill(
    connection: sa.Connection, zone_id: int, store_id: int, templates: int, machines: int, events_count: int
) -> list[str]:
    """Fill the tables, and return the UUIDs of some templates."""
    from systemvm.management.state.columns import new_uuid
    from systemvm.management.state.status import AccountType, InstanceState, InstanceType, VolumeState
    from systemvm.wire.storage import DownloadState, ImageFormat

    owners = [
        accounts.create_account(connection, f"account{n}", AccountType.USER, 1).id for n in range(ACCOUNTS)
    ]
    uuids = [new_uuid() for _ in range(templates)]
    insert(
        connection,
        schema.templates,
        (
            {
                "uuid": uuid, "name": f"template {n}", "display_text": f"Debian 12, build {n}",
                "unique_name": f"{owners[n % ACCOUNTS]}-{n}-{uuid}", "account_id": owners[n % ACCOUNTS],
                "zone_id": zone_id, "format": ImageFormat.QCOW2, "arch": "x86_64",
                "public": n % 10 == 0, "featured": n % 50 == 0,
                "url": f"https://images.example.test/debian-{n}.qcow2",
                "checksum": f"{{SHA-512}}{n:0128x}", "created": _FIRST + timedelta(seconds=n),
            }
            for n, uuid in enumerate(uuids)
        ),
    )  # fmt: skip
    ids = list(connection.scalars(sa.select(schema.templates.c.id).order_by(schema.templates.c.id)))
    insert(
        connection,
        schema.template_store_refs,
        (
            {
                "template_id": number, "store_id": store_id, "job_id": new_uuid(), "percent": 100,
                "state": DownloadState.DOWNLOADED, "virtual_size_bytes": 2 << 30,
                "physical_size_bytes": 300 << 20, "install_path": f"template/tmpl/1/{number}/a.qcow2",
            }
            for number in ids
        ),
    )  # fmt: skip
    first_vm = 1 + (connection.scalar(sa.select(sa.func.max(schema.vm_instances.c.id))) or 0)
    insert(
        connection,
        schema.vm_instances,
        (
            {
                "id": first_vm + n, "name": f"machine-{n}", "instance_name": f"i-2-{first_vm + n}-VM",
                "type": InstanceType.USER, "state": InstanceState.RUNNING, "zone_id": zone_id, "host_id": 1,
                "account_id": owners[n % ACCOUNTS], "template_id": ids[n % len(ids)], "arch": "x86_64",
            }
            for n in range(machines)
        ),
    )  # fmt: skip
    insert(
        connection,
        schema.nics,
        (
            {
                "vm_id": first_vm + n, "device": 0, "traffic_type": "Guest", "bridge": "cloudbr3",
                "mac": "02:00:" + ":".join(f"{byte:02x}" for byte in n.to_bytes(4, "big")),
            }
            for n in range(machines)
        ),
    )  # fmt: skip
    insert(
        connection,
        schema.volumes,
        (
            {
                "name": f"ROOT-{n}", "vm_id": first_vm + n, "zone_id": zone_id, "host_id": 1,
                "account_id": owners[n % ACCOUNTS], "template_id": ids[n % len(ids)],
                "state": VolumeState.READY, "size_bytes": 2 << 30,
            }
            for n in range(machines)
        ),
    )  # fmt: skip
    insert(
        connection,
        schema.events,
        (
            {
                "uuid": new_uuid(), "account_id": owners[n % ACCOUNTS], "type": "TEMPLATE.CREATE",
                "description": f"template {n} is registered", "created": _FIRST + timedelta(seconds=n),
                "resource_uuid": uuids[n % len(uuids)], "resource_type": "Template",
            }
            for n in range(events_count)
        ),
    )  # fmt: skip
    return uuids[:: max(1, len(uuids) // 1000)]


async def report_progress(database: Database) -> None:
    """Change a download as its report does, with VMs and events for the lists of those."""

    def change(connection: sa.Connection) -> None:
        refs, vms = schema.template_store_refs, schema.vm_instances
        connection.execute(refs.update().where(refs.c.id == 1).values(percent=next(_PERCENT) % 100))
        connection.execute(vms.update().where(vms.c.id == 1).values(console_sessions=next(_PERCENT) % 100))
        events.record(connection, "TEMPLATE.CREATE", "progress")

    await database.run(change)


def main() -> int:
    directory, (templates, machines, event_count) = Path(sys.argv[1]), map(int, sys.argv[2:5])

    from twisted.internet import asyncioreactor

    asyncioreactor.install()  # the daemon's
    from twisted.internet import reactor as installed
    from twisted.internet import task
    from twisted.internet.defer import Deferred
    from twisted.web.resource import Resource

    from small_cloud import make
    from small_cloud.rows import fill as fill_small_cloud
    from systemvm.management.api.site import ManagementSite

    (directory / "pristine").mkdir()
    (directory / "cloud").mkdir()
    cloud = make(directory / "cloud", fill_small_cloud(directory / "pristine"))
    uuids = cloud.database.run_now(fill, cloud.zone.id, cloud.store.id, templates, machines, event_count)
    api_key, secret_key = GREEDY_KEYS
    cloud.database.run_now(accounts.add_api_key, cloud.user.user.id, api_key, cloud.seal.close(secret_key))
    cloud.database.run_now(lambda connection: connection.exec_driver_sql("ANALYZE"))
    root = Resource()
    root.putChild(b"client", cloud.client())
    reactor: Any = installed
    if "--changing" in sys.argv[5:]:
        progress = task.LoopingCall(lambda: Deferred.fromCoroutine(report_progress(cloud.database)))
        progress.clock = reactor
        reactor.callLater(0, progress.start, REPORT_INTERVAL_S)  # when asyncio's loop runs
    port = reactor.listenTCP(0, ManagementSite(root), interface="127.0.0.1")
    print(json.dumps({"port": port.getHost().port, "templates": uuids}), flush=True)
    interpreter_pauses.shorten()
    reactor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
